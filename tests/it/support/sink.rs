//! Postfix's smtp-sink: a relay that nobody here wrote. `scripts/postfix.sh` finds or unpacks it; `make test` calls that.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{data_dir, say, test_name};

/// A running smtp-sink. It ends with this value.
pub struct Sink {
    pub port: u16,
    child: Child,
    /// A file per message that it accepted.
    dir: TempDir,
}

impl Sink {
    /// Starts it with these options (smtp-sink(1)); `None`, with a line that cannot be overlooked, where there is none.
    pub fn start(options: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            say(&format!("SKIPPED {}: there is no smtp-sink; see scripts/postfix.sh", test_name()));
            return None;
        };
        let dir = data_dir();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        // Free now; whoever takes it in between makes the sink end, and the test fail.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(programs.join("smtp-sink"));
        command.env("LD_LIBRARY_PATH", programs.join("../lib/postfix")).current_dir(dir.path());
        if nix::unistd::Uid::effective().is_root() {
            command.args(["-u", "nobody"]);
        }
        command.args(["-d", "mail."]).args(options).arg(format!("127.0.0.1:{port}")).arg("100");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { port, child, dir });
            }
            assert!(child.try_wait().unwrap().is_none(), "smtp-sink has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("smtp-sink does not listen")
    }

    /// The recipients of what it accepted so far.
    pub fn accepted(&self) -> Vec<String> {
        let mut accepted = Vec::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let mail = std::fs::read(entry.unwrap().path()).unwrap();
            let mail = String::from_utf8_lossy(&mail);
            let to = mail.lines().find_map(|line| line.strip_prefix("X-Rcpt-Args: <")).unwrap();
            accepted.push(to.split('>').next().unwrap().to_owned());
        }
        accepted
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn programs() -> Option<PathBuf> {
    // The tests' program lies in <target>/debug.
    let target = Path::new(env!("CARGO_BIN_EXE_afterword")).ancestors().nth(2).unwrap();
    let places =
        [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin"), target.join("postfix/usr/sbin")];
    places.into_iter().find(|place| place.join("smtp-sink").exists())
}
