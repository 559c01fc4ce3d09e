//! The real program in a directory of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use afterword::cli::{self, init};
use afterword::config::Config;
use afterword::context::Context;
use afterword::types::Clock;
use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::TestDb;
use super::config::smtp;

/// Copies a program that a test starts. Another process does it: were the copy open for writing here, a child that another test starts
/// at that moment would hold it open too, and the system runs no file that is (ETXTBSY).
pub fn install(program: &Path, to: &Path) {
    assert!(Command::new("install").args(["-m", "755"]).args([program, to]).status().unwrap().success());
}

/// A directory with a jobs.toml, a database, and the program to run there.
pub struct Program {
    pub dir: TempDir,
    pub db: TestDb,
}

/// `serve` in a directory, its log in a file there. It does not outlive the test, however that ends.
pub struct Serving {
    pub child: Child,
    log: PathBuf,
}

impl Serving {
    /// Starts it.
    pub fn start(dir: &Path) -> Self {
        Self::of(command(dir).arg("serve"), dir)
    }

    /// Starts this command, which serves.
    pub fn of(command: &mut Command, dir: &Path) -> Self {
        let log = dir.join("serve.log");
        // Into a file: nobody reads a pipe meanwhile.
        let child =
            command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        Self { child, log }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// It goes on.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "{}", self.log());
    }

    /// Waits until its log says so.
    #[track_caller]
    pub fn until(&mut self, word: &str) {
        let begun = Instant::now();
        while !self.log().contains(word) {
            self.expect_alive();
            assert!(begun.elapsed() < Duration::from_secs(60), "{word:?} is not said:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to stop; its exit code.
    pub fn stop(mut self) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// It must have ended so.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.stdout, self.stderr))
    }
}

/// The shipped jobs.toml, its send window open all day (tests run at any hour).
pub fn shipped() -> String {
    let closed = "send_window = { days = \"mon-sat\", from = \"09:00\", to = \"19:00\" }";
    assert!(init::SHIPPED.contains(closed));
    init::SHIPPED.replace(closed, "")
}

/// The same, mails going to a relay at this port of this machine.
pub fn shipped_with(port: u16) -> String {
    let file = "transport = \"file\"";
    let text = shipped();
    let at = text.find(file).unwrap();
    format!("{}{}#{}", &text[..at], smtp(port), &text[at + file.len()..])
}

impl Program {
    /// With this jobs.toml, and a database of its own put into it.
    pub async fn new(jobs_toml: &str) -> Self {
        let program = Self { db: TestDb::new().await, dir: super::data_dir() };
        program.configure(jobs_toml);
        program
    }

    /// Writes the jobs.toml, the database's address put into it.
    pub fn configure(&self, jobs_toml: &str) {
        self.write(
            "jobs.toml",
            jobs_toml.replacen("[database]", &format!("[database]\nurl = {:?}", self.db.url), 1),
        );
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The same for a secret, which nobody else may read.
    pub fn write_secret(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.write(name, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        let output = command(self.dir.path()).args(args).output().unwrap();
        ran(output)
    }

    /// Starts a command and leaves it running.
    pub fn spawn(&self, args: &[&str]) -> Child {
        command(self.dir.path()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts `serve`, and waits until its log says so.
    #[track_caller]
    pub fn serve(&self, ready: &str) -> Serving {
        let mut serving = Serving::start(self.dir.path());
        serving.until(ready);
        serving
    }

    /// What the program itself works with, at a fixed moment.
    pub async fn context(&self, now: DateTime<Utc>) -> Context {
        let path = self.path("jobs.toml");
        let config = Config::parse(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
        cli::open_config(config, Clock::Fixed(now)).await.unwrap().context
    }
}

/// The program, in a directory, knowing nothing of this process's environment that it should not.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afterword"));
    command
        .current_dir(dir)
        .env_remove("DATABASE_URL")
        .env_remove("AFTERWORD_SECRET")
        .env_remove("RUST_LOG")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

pub fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
