//! `db dump` and `db restore`: a backup that is whole or not there, and a restored database that mails nobody twice.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use afterword::db::embedded;
use tempfile::TempDir;

use crate::support::TestDb;
use crate::support::data_dir;
use crate::support::program::{Program, Ran, command, install, ran, shipped, shipped_with};
use crate::support::smtp::Relay;

const NOW: &str = "2026-03-12T10:00:00Z";
const LATER: &str = "2026-03-14T10:00:00Z";

/// A shop with a private Postgres, as `init` sets one up.
struct Shop(TempDir);

impl Shop {
    fn new(relay: &Relay) -> Self {
        let dir = data_dir();
        // So that the server, whose user is another one when we are root, keeps its data here.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("jobs.toml"), shipped_with(relay.port)).unwrap();
        Self(dir)
    }

    fn run(&self, args: &[&str]) -> Ran {
        ran(command(self.0.path()).args(args).output().unwrap())
    }

    fn import(&self, orders: &[(&str, &str)]) {
        let rows = orders.iter().map(|(id, day)| format!("{id},{id}@customer.example,{day},{day}\n"));
        let text = format!("order_id,email,ordered_at,fulfilled_at\n{}", rows.collect::<String>());
        fs::write(self.0.path().join("orders.csv"), text).unwrap();
        self.run(&["import", "orders", "orders.csv", "--shop", "maison"]).expect(0);
    }

    fn state(&self, order: &str) -> String {
        let story = self.run(&["explain", "order", order, "--json"]).expect(0);
        story.stdout
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_lost_its_database_mails_nobody_twice() {
    let relay = Relay::start();
    let shop = Shop::new(&relay);
    shop.import(&[("1", "2026-03-01")]);
    shop.run(&["run", "send-invitations", "--as-of", NOW]).expect(0);
    assert_eq!(relay.n_accepted(), 1);
    let dumped = shop.run(&["db", "dump", "backups/a.dump"]).expect(0);
    assert!(dumped.stderr.contains("backups/a.dump") && dumped.stdout.is_empty(), "{dumped:?}");
    let backup = shop.0.path().join("backups/a.dump");
    assert_eq!(mode(&backup), 0o600);
    let size = fs::metadata(&backup).unwrap().len();
    shop.run(&["db", "dump", "backups/a.dump"]).expect(4);
    assert_eq!(fs::metadata(&backup).unwrap().len(), size, "a backup is not written over");
    // What the backup does not know.
    shop.import(&[("2", "2026-03-05")]);
    shop.run(&["run", "send-invitations", "--as-of", LATER]).expect(0);
    assert_eq!(relay.n_accepted(), 2);
    let refused = shop.run(&["db", "restore", "backups/a.dump"]).expect(4);
    assert!(
        refused.stderr.contains("not empty") && refused.stderr.contains("postgres"),
        "{}",
        refused.stderr
    );

    // The disk is gone; what lies beside the database is not.
    fs::remove_dir_all(shop.0.path().join("data/postgres")).unwrap();
    // Half a backup leaves nothing behind, and the whole one is taken after it.
    let bytes = fs::read(&backup).unwrap();
    fs::write(shop.0.path().join("half.dump"), &bytes[..bytes.len() / 2]).unwrap();
    shop.run(&["db", "restore", "half.dump"]).expect(1);
    shop.run(&["db", "restore", "no.dump"]).expect(1);
    shop.run(&["db", "restore", "/dev/zero"]).expect(1);
    shop.run(&["db", "restore", "backups/a.dump"]).expect(0);
    assert!(shop.state("1").contains("\"sent\""), "{}", shop.state("1"));

    shop.import(&[("2", "2026-03-05")]);
    for job in [
        &["run", "send-invitations", "--as-of", LATER][..],
        &["run", "send-invitations", "--dry-run", "--as-of", LATER],
    ] {
        let refused = shop.run(job).expect(4);
        assert!(refused.stderr.contains("restored from a backup"), "{}", refused.stderr);
    }
    shop.run(&["adopt", "--restored", "--as-of", LATER]).expect(0);
    shop.import(&[("1", "2026-03-01"), ("2", "2026-03-05"), ("3", "2026-03-10")]);
    shop.run(&["run", "send-invitations", "--as-of", "2026-03-18T10:00:00Z"]).expect(0);
    let mut mailed: Vec<String> = relay.accepted().into_iter().map(|mail| mail.to).collect();
    mailed.sort();
    mailed.dedup();
    assert_eq!(mailed, ["1@customer.example", "2@customer.example", "3@customer.example"]);
    // The reminder of the first is a wave of its own; every first mail went once.
    let subjects = relay.accepted();
    let n_to = |to: &str| subjects.iter().filter(|mail| mail.to == to).count();
    assert_eq!((n_to("2@customer.example"), n_to("3@customer.example")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_not_in_the_list_of_processes() {
    let program = Program::new(&shipped()).await;
    program.run(&["migrate"]).expect(0);
    let tools = embedded::client_programs(14).unwrap();
    let bin = program.path("bin");
    fs::create_dir(&bin).unwrap();
    for tool in ["pg_dump", "pg_restore", "psql"] {
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] || echo \"$0 $*\" >>{}\n[ \"$1\" = --version ] || echo \"$PGPASSWORD\" >>{}\nexec {} \"$@\"\n",
            program.path("arguments").display(),
            program.path("passwords").display(),
            tools.join(tool).display()
        );
        let script = program.write("script", script);
        install(&script, &bin.join(tool));
    }
    let with_password = |db: &TestDb| {
        let url = db.url.replacen('@', ":hush%20hush@", 1);
        let jobs_toml = shipped().replacen("[database]", &format!("[database]\nurl = {url:?}"), 1);
        program.write("jobs.toml", jobs_toml);
    };
    let run =
        |args: &[&str]| ran(command(program.dir.path()).env("PG_BIN_DIR", &bin).args(args).output().unwrap());
    with_password(&program.db);
    run(&["db", "dump", "a.dump"]).expect(0);
    let empty = TestDb::empty().await;
    with_password(&empty);
    run(&["db", "restore", "a.dump"]).expect(0);
    let arguments = fs::read_to_string(program.path("arguments")).unwrap();
    assert_eq!(arguments.lines().count(), 3, "{arguments}");
    assert!(!arguments.contains("hush"), "{arguments}");
    assert_eq!(fs::read_to_string(program.path("passwords")).unwrap(), "hush hush\n".repeat(3));
    // What cannot be reached is named without it.
    program.write(
        "jobs.toml",
        shipped().replacen("[database]", "[database]\nurl = \"postgres://a:hush@127.0.0.1:1/a\"", 1),
    );
    let refused = run(&["db", "dump", "b.dump"]).expect(1);
    assert!(!refused.stderr.contains("hush"), "{}", refused.stderr);
    assert!(!program.path("b.dump").exists());
}
