//! A private Postgres from the server programs that the system has, for the demo, small shops and the tests.
//!
//! In: a directory. Out: a running server that this process may use, under that directory and reachable through a socket only. Whoever
//! comes first initialises and starts it; whoever comes later finds it running and uses it too; when the last process that uses it has
//! ended, it stops.
//!
//! If we die half way, in whatever way (`kill -9` and power loss included):
//!
//! - Every process that uses the server holds a shared lock on `users.lock`, and locks vanish with the process. A small guard, a shell
//!   between us and the server, reads a pipe whose other end only the starting process has. When that end closes the guard waits
//!   until nobody holds the lock any more and stops the server. It keeps the lock until the server is gone, so that nobody starts to
//!   use a server that is stopping.
//! - `initdb` writes to `data.tmp`, which is renamed once it is whole; a left-over `data.tmp` is thrown away.
//! - A `postmaster.pid` that names no process, or a process that is not the server of this directory, is removed.
//!
//! `start.lock` is held over all of initialising, starting and finding, so that two first starts wait for each other.
//!
//! Postgres refuses to run as root. As root the server runs as `postgres` (else as `nobody`), and where that user cannot reach the
//! directory, under `/var/lib/afterword` instead. Debian's own clusters are never touched. Backups are the operator's.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown,
};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{Pid, Uid, User};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::sleep;

use crate::config;

/// The role and the database that a new cluster gets.
const NAME: &str = "afterword";
/// Only part of the socket's file name; nothing listens on a network.
const PORT: u16 = 5432;
/// Postgres as root, where its user cannot reach the configured directory.
const ROOTS_PLACE: &str = "/var/lib/afterword";
/// Longest path of a Unix socket, by the kernel.
const LONGEST_SOCKET_PATH: usize = 107;
/// The oldest Postgres that will do.
const OLDEST_VERSION: u32 = 14;
/// For whatever another process or the server is doing: initialising on a slow disk, recovering after a power loss.
const PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// `$@` is the server. Descriptor 3 is our pipe, 9 the lock. The signals that end a terminal session are not for the server: we
/// decide when it ends. `wait` runs in the outer shell, which shares the lock that the inner one takes and so keeps it until the
/// server is gone.
const GUARD: &str = r#"
trap '' HUP INT TERM
exec 3<&0 9<users.lock
"$@" </dev/null >>postgres.log 2>&1 3<&- 9<&- &
server=$!
(
    while read -r _ <&3; do :; done
    flock -x 9
    kill -INT "$server"
) </dev/null &
watcher=$!
exec 3<&-
wait "$server"
status=$?
kill -KILL "$watcher" 2>/dev/null
exit "$status"
"#;

/// What a commit is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It outlives a power loss.
    Full,
    /// Nothing outlives a power loss, not even the cluster: it is made anew when it does not start. For tests.
    None,
}

/// Why there is no embedded server.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No server programs.
    #[error(
        "no Postgres server programs (initdb, postgres) of version {OLDEST_VERSION} or newer were found; one of these helps:\n  \
         install them: `sudo apt-get install postgresql` on Debian and Ubuntu, or set PG_BIN_DIR to the directory that holds them\n  \
         or, but for a demo, use a server that runs already: set DATABASE_URL, or `url` under `[database]` in jobs.toml"
    )]
    NoPrograms,
    /// `PG_BIN_DIR` is set and wrong.
    #[error(
        "PG_BIN_DIR is {0:?}, but there are no Postgres server programs (initdb, postgres) of version {OLDEST_VERSION} or newer there"
    )]
    BadBinDir(PathBuf),
    /// The cluster was made by another major version.
    #[error(
        "the data in {data} was made by Postgres {made_by}, but the server programs found are of version {found}; \
         install Postgres {made_by} beside it, or move the data over with its pg_dump"
    )]
    WrongVersion { data: PathBuf, made_by: u32, found: u32 },
    /// Somebody else's directory.
    #[error(
        "{path} is not a directory of the user {user}; start as the user who made it, or choose another data_dir"
    )]
    WrongOwner { path: PathBuf, user: String },
    /// `data` holds other things.
    #[error("{0} holds something that is no Postgres cluster; choose another data_dir")]
    NotACluster(PathBuf),
    /// The others hold a lock for too long.
    #[error("another process has been starting or stopping the embedded Postgres in {0} for two minutes")]
    Locked(PathBuf),
    /// `initdb` failed.
    #[error("initialising the embedded Postgres in {root} failed:\n{output}")]
    Init { root: PathBuf, output: String },
    /// The server ended while it was starting.
    #[error("the embedded Postgres in {root} did not start; the end of its log:\n{log}")]
    Died { root: PathBuf, log: String },
    /// The server neither ended nor answered.
    #[error("the embedded Postgres in {root} does not answer after two minutes; the end of its log:\n{log}")]
    Silent { root: PathBuf, log: String },
    /// The system refused.
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// The server refused.
    #[error("the embedded Postgres refuses: {0}")]
    Database(#[from] sqlx::Error),
}

/// Puts words around an I/O error.
fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError {
    move |source| EmbeddedError::Io { what, path: path.to_owned(), source }
}

/// A running server, in use by us as long as this value lives.
#[derive(Debug)]
pub struct Server {
    place: Place,
    users: Flock<File>,
    /// The guard, when it was us who started the server. Dropping it closes the pipe.
    guard: Option<Child>,
}

impl Server {
    /// How to connect to it: the role and the database `afterword`, over the socket.
    pub fn options(&self) -> PgConnectOptions {
        self.place.options(NAME)
    }

    /// Where it keeps everything. Not always where it was asked to: see the module's description.
    pub fn root(&self) -> &Path {
        &self.place.root
    }

    /// Leaves the server alone. When nobody else uses it, waits (ten seconds at most) until it has stopped.
    pub async fn close(self) {
        let Self { place, users, guard } = self;
        drop(users);
        let mut guard = guard;
        if let Some(guard) = &mut guard {
            drop(guard.stdin.take());
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let ended = match &mut guard {
                Some(guard) => !matches!(guard.try_wait(), Ok(None)),
                None => place.postmaster() != Postmaster::Running,
            };
            if ended || place.used_by_others() {
                return;
            }
            sleep(BETWEEN_TRIES).await;
        }
    }
}

/// Starts the server in this directory, or finds it running.
///
/// # Errors
/// Each says what is wrong and, where we know, what to do.
pub async fn start(root: &Path, durability: Durability) -> Result<Server, EmbeddedError> {
    let place = Place::prepare(root)?;
    let _starting = place.lock("start.lock", FlockArg::LockExclusiveNonblock).await?;
    let users = place.lock("users.lock", FlockArg::LockSharedNonblock).await?;
    if place.is_answering().await? {
        tracing::debug!(root = %place.root.display(), "found the embedded Postgres running");
        return Ok(Server { place, users, guard: None });
    }
    let guard = match place.launch(durability).await {
        Err(EmbeddedError::Died { .. } | EmbeddedError::WrongVersion { .. })
            if durability == Durability::None =>
        {
            place.remove("data")?;
            place.launch(durability).await?
        }
        launched => launched?,
    };
    Ok(Server { place, users, guard: Some(guard) })
}

/// Where `pg_dump`, `pg_restore` and `psql` are that can talk to a server of this major version: those of the same version, else of the
/// oldest newer one.
pub fn client_programs(version: u32) -> Option<PathBuf> {
    let search = Search::of_this_system();
    let directories = match &search.given {
        Some(given) => vec![given.clone()],
        None => search.directories(),
    };
    let is_whole = |directory: &PathBuf| {
        ["pg_dump", "pg_restore", "psql"].iter().all(|program| directory.join(program).is_file())
    };
    directories
        .into_iter()
        .filter(is_whole)
        .filter_map(|directory| Some((version_of(&directory.join("pg_dump"))?, directory)))
        .filter(|(found, _)| *found >= version)
        .min_by_key(|(found, _)| *found)
        .map(|(_, directory)| directory)
}

/// The directories of one server, and the user it runs as.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    sockets: PathBuf,
    user: ServerUser,
}

/// What `postmaster.pid` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Postmaster {
    /// There is none.
    Gone,
    /// It names the server of this directory: starting, running or stopping.
    Running,
    /// It names nobody, or somebody else.
    Stale,
}

impl Place {
    fn prepare(root: &Path) -> Result<Self, EmbeddedError> {
        let user = ServerUser::find()?;
        let root = reachable_root(root, &user)?;
        own_directory(&root, &user)?;
        let sockets = socket_directory(&root);
        own_directory(&sockets, &user)?;
        Ok(Self { root, sockets, user })
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.sockets)
            .port(PORT)
            .ssl_mode(PgSslMode::Disable)
            .username(NAME)
            .database(database)
    }

    /// Waits for a lock. The attempts are repeated, rather than one that blocks, so that the wait has an end.
    async fn lock(&self, name: &str, kind: FlockArg) -> Result<Flock<File>, EmbeddedError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = self.try_lock(name, kind)? {
                return Ok(lock);
            }
            if Instant::now() > deadline {
                return Err(EmbeddedError::Locked(self.root.clone()));
            }
            sleep(BETWEEN_TRIES).await;
        }
    }

    fn try_lock(&self, name: &str, kind: FlockArg) -> Result<Option<Flock<File>>, EmbeddedError> {
        let path = self.root.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(io_error("cannot open", &path))?;
        if self.user.change {
            // The guard runs as this user and opens the file too.
            fchown(&file, Some(self.user.uid), Some(self.user.gid))
                .map_err(io_error("cannot give away", &path))?;
        }
        match Flock::lock(file, kind) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(io_error("cannot lock", &path)(errno.into())),
        }
    }

    /// Whether a process uses the server; to be asked without holding the lock. Nobody can have it exclusively but the guard that is
    /// stopping the server, and then nobody can share it.
    fn used_by_others(&self) -> bool {
        let free = |kind| matches!(self.try_lock("users.lock", kind), Ok(Some(_)));
        !free(FlockArg::LockExclusiveNonblock) && free(FlockArg::LockSharedNonblock)
    }

    fn postmaster(&self) -> Postmaster {
        let Ok(text) = fs::read_to_string(self.data().join("postmaster.pid")) else {
            return Postmaster::Gone;
        };
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else {
            return Postmaster::Stale;
        };
        // The server works in its data directory; that tells it from a process that has got the number of a dead one. Without
        // /proc every living process is taken for the server.
        let running = match fs::read_link(format!("/proc/{pid}/cwd")) {
            Ok(directory) => directory == self.data(),
            Err(_) if Path::new("/proc/self").exists() => false,
            Err(_) => nix::sys::signal::kill(Pid::from_raw(pid), None).is_ok(),
        };
        if running { Postmaster::Running } else { Postmaster::Stale }
    }

    /// Whether a server is there to be used. Waits while one is starting or stopping.
    async fn is_answering(&self) -> Result<bool, EmbeddedError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.answers().await? {
                return Ok(true);
            }
            match self.postmaster() {
                Postmaster::Running if Instant::now() > deadline => {
                    return Err(EmbeddedError::Silent { root: self.root.clone(), log: self.log_tail() });
                }
                Postmaster::Running => sleep(BETWEEN_TRIES).await,
                Postmaster::Gone => return Ok(false),
                Postmaster::Stale => {
                    self.remove("data/postmaster.pid")?;
                    return Ok(false);
                }
            }
        }
    }

    /// Tries to connect, and makes the database where a new cluster has none yet.
    async fn answers(&self) -> Result<bool, EmbeddedError> {
        match self.connect(NAME).await {
            Ok(connection) => {
                connection.close().await.ok();
                return Ok(true);
            }
            Err(error) => match error.as_database_error().and_then(|e| e.code()).as_deref() {
                // There is no such database yet.
                Some("3D000") => {}
                // All connections are taken: it runs.
                Some("53300") => return Ok(true),
                // It is starting or stopping; or nobody listens.
                Some("57P03") | None => return Ok(false),
                Some(_) => return Err(error.into()),
            },
        }
        let mut connection = self.connect("postgres").await?;
        sqlx::raw_sql("create database afterword").execute(&mut connection).await?;
        connection.close().await.ok();
        Ok(true)
    }

    async fn connect(&self, database: &str) -> sqlx::Result<PgConnection> {
        // A stopped (not: dead) server takes connections and never answers. Nobody gets this connection after a timeout, so that
        // cutting it off is harmless.
        tokio::time::timeout(Duration::from_secs(10), super::untold(self.options(database)).connect())
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Initialises what is not there yet, starts the server, and returns its guard once it answers.
    async fn launch(&self, durability: Durability) -> Result<Child, EmbeddedError> {
        let data = self.data();
        let made_by = match fs::read_to_string(data.join("PG_VERSION")) {
            Ok(version) => version.trim().parse::<u32>().ok(),
            Err(_) => None,
        };
        let programs = Search::of_this_system().programs(made_by)?;
        match made_by {
            Some(made_by) if made_by != programs.version => {
                return Err(EmbeddedError::WrongVersion { data, made_by, found: programs.version });
            }
            Some(_) => {}
            None => self.initialise(&programs, durability).await?,
        }
        tracing::info!(root = %self.root.display(), version = programs.version, "starting the embedded Postgres");
        let mut guard = self.spawn_guard(&programs, durability)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.answers().await? {
                return Ok(guard);
            }
            if !matches!(guard.try_wait(), Ok(None)) {
                return Err(EmbeddedError::Died { root: self.root.clone(), log: self.log_tail() });
            }
            if Instant::now() > deadline {
                return Err(EmbeddedError::Silent { root: self.root.clone(), log: self.log_tail() });
            }
            sleep(BETWEEN_TRIES).await;
        }
    }

    async fn initialise(&self, programs: &Programs, durability: Durability) -> Result<(), EmbeddedError> {
        let (data, unfinished) = (self.data(), self.root.join("data.tmp"));
        if fs::read_dir(&data).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(EmbeddedError::NotACluster(data));
        }
        self.remove("data.tmp")?;
        tracing::info!(root = %self.root.display(), "initialising the embedded Postgres");
        let mut command = self.command(programs.directory.join("initdb"));
        command.arg("--pgdata").arg(&unfinished).args(["--username", NAME, "--auth", "trust"]);
        command.args(["--encoding", "UTF8", "--locale", "C.UTF-8", "--no-instructions"]);
        if durability == Durability::None {
            command.arg("--no-sync");
        }
        let mut command = tokio::process::Command::from(command);
        // Whoever gives up waiting must not leave an initdb behind that writes where the next one does.
        command.kill_on_drop(true).stdin(Stdio::null());
        let failed = |output: String| EmbeddedError::Init { root: self.root.clone(), output };
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .map_err(|_| failed("it took more than two minutes".to_owned()))?
            .map_err(io_error("cannot run", &programs.directory.join("initdb")))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        fs::rename(&unfinished, &data).map_err(io_error("cannot write", &data))?;
        if durability == Durability::Full {
            File::open(&self.root)
                .and_then(|root| root.sync_all())
                .map_err(io_error("cannot write", &self.root))?;
        }
        Ok(())
    }

    fn spawn_guard(&self, programs: &Programs, durability: Durability) -> Result<Child, EmbeddedError> {
        // The log of this start and the one before it; longer ones would grow for ever.
        match fs::rename(self.root.join("postgres.log"), self.root.join("postgres.log.old")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("cannot rename", &self.root.join("postgres.log"))(error));
            }
            _ => {}
        }
        let mut command = self.command("/bin/sh");
        command.args(["-c", GUARD, "afterword-postgres-guard"]);
        command.arg(programs.directory.join("postgres")).arg("-D").arg(self.data());
        command.arg("-k").arg(&self.sockets).args(["-p", &PORT.to_string()]);
        let mut settings = vec!["listen_addresses=", "unix_socket_permissions=0700"];
        settings.extend([
            "timezone=UTC",
            "log_timezone=UTC",
            "logging_collector=off",
            "log_destination=stderr",
        ]);
        // An error of Postgres repeats what it was given, addresses included, and a failed statement is ours to report: its own
        // log tells of starting, stopping and dying only.
        settings.extend([
            "log_min_messages=log",
            "log_min_error_statement=panic",
            "log_error_verbosity=terse",
        ]);
        settings.extend(["log_checkpoints=off", "log_statement=none"]);
        // Compiling a query takes longer than most of ours run, and memory that is written and then executed is what a hardened unit
        // (packaging/systemd) forbids.
        settings.push("jit=off");
        settings.extend(match durability {
            Durability::Full => vec!["max_connections=100"],
            Durability::None => {
                vec!["max_connections=300", "fsync=off", "synchronous_commit=off", "full_page_writes=off"]
            }
        });
        for setting in settings {
            command.args(["-c", setting]);
        }
        // A process group of its own: Ctrl-C in a terminal is meant for us.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map_err(io_error("cannot run", Path::new("/bin/sh")))
    }

    /// A command in the server's directory, as the server's user, with nothing of our environment but where programs are.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = config::environment("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
        command
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC");
        if self.user.change {
            command.uid(self.user.uid).gid(self.user.gid);
        }
        command
    }

    /// The last lines of the server's log, for the person who has to find out.
    fn log_tail(&self) -> String {
        let log = fs::read(self.root.join("postgres.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let mut tail = VecDeque::new();
        for line in log.lines() {
            tail.push_back(format!("  {line}"));
            if tail.len() > 12 {
                tail.pop_front();
            }
        }
        Vec::from(tail).join("\n")
    }

    /// Removes a file or a directory with all that is in it, if it is there.
    fn remove(&self, name: &str) -> Result<(), EmbeddedError> {
        let path = self.root.join(name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("cannot remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Whom the server runs as.
#[derive(Debug)]
struct ServerUser {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether that is somebody else than we are.
    change: bool,
}

impl ServerUser {
    fn find() -> Result<Self, EmbeddedError> {
        let user = |found: nix::Result<Option<User>>| {
            found.map_err(|errno| io_error("cannot read", Path::new("/etc/passwd"))(errno.into()))
        };
        let me = Uid::effective();
        if !me.is_root() {
            let name = user(User::from_uid(me))?.map_or_else(|| me.to_string(), |user| user.name);
            let gid = nix::unistd::Gid::effective();
            return Ok(Self { name, uid: me.as_raw(), gid: gid.as_raw(), change: false });
        }
        for name in ["postgres", "nobody"] {
            if let Some(found) = user(User::from_name(name))? {
                if name == "nobody" {
                    tracing::warn!(
                        "there is no user postgres: the embedded Postgres runs as nobody, like whatever else does"
                    );
                }
                let (uid, gid) = (found.uid.as_raw(), found.gid.as_raw());
                return Ok(Self { name: found.name, uid, gid, change: true });
            }
        }
        let nobody = io::Error::other(
            "it has neither a user postgres nor a user nobody, and Postgres refuses to run as root",
        );
        Err(io_error("cannot use", Path::new("/etc/passwd"))(nobody))
    }

    /// Whether this user may go through a directory.
    fn passes(&self, directory: &fs::Metadata) -> bool {
        let bit = match directory {
            d if d.uid() == self.uid => 0o100,
            d if d.gid() == self.gid => 0o010,
            _ => 0o001,
        };
        directory.mode() & bit != 0
    }
}

/// The directory to use: the one that was asked for, with everything above it resolved; as root, another one when the server's user
/// cannot get there.
fn reachable_root(root: &Path, user: &ServerUser) -> Result<PathBuf, EmbeddedError> {
    let root = std::path::absolute(root).map_err(io_error("cannot find", root))?;
    let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else {
        return Err(io_error("cannot use", &root)(io::ErrorKind::InvalidInput.into()));
    };
    fs::create_dir_all(parent).map_err(io_error("cannot make", parent))?;
    let parent = parent.canonicalize().map_err(io_error("cannot find", parent))?;
    let wanted = parent.join(name);
    if !user.change
        || parent.ancestors().all(|above| fs::metadata(above).is_ok_and(|found| user.passes(&found)))
    {
        return Ok(wanted);
    }
    let fallback = Path::new(ROOTS_PLACE);
    fs::create_dir_all(fallback).map_err(io_error("cannot make", fallback))?;
    fs::set_permissions(fallback, Permissions::from_mode(0o755))
        .map_err(io_error("cannot open up", fallback))?;
    let fallback = fallback.join(short_name(&wanted));
    tracing::info!(
        "the user {} cannot reach {}: the embedded Postgres keeps its data in {}",
        user.name,
        wanted.display(),
        fallback.display()
    );
    Ok(fallback)
}

/// Where the socket goes: `run` beside the data; a short directory under the system's temporary one where that path is too long, or
/// has a character that the server's option gives a meaning to.
fn socket_directory(root: &Path) -> PathBuf {
    let fits = |directory: &Path| {
        directory.as_os_str().len() + format!("/.s.PGSQL.{PORT}").len() <= LONGEST_SOCKET_PATH
            && directory.to_str().is_some_and(|text| !text.contains([',', '"', '\\']) && text.trim() == text)
    };
    let beside = root.join("run");
    if fits(&beside) {
        return beside;
    }
    let short = format!("afterword-{}", short_name(root));
    Some(std::env::temp_dir().join(&short))
        .filter(|directory| fits(directory))
        .unwrap_or_else(|| Path::new("/tmp").join(short))
}

/// A name of sixteen characters for a path.
fn short_name(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a directory that only the server's user (and root) can enter, or sees that it is one. A link is refused: in a directory that
/// everybody may write to, somebody else could have put it there.
fn own_directory(path: &Path, user: &ServerUser) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io_error("cannot make", path)(error));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(io_error("cannot read", path))?;
    let wrong_owner = || EmbeddedError::WrongOwner { path: path.to_owned(), user: user.name.clone() };
    if !found.is_dir() {
        return Err(wrong_owner());
    }
    if found.uid() != user.uid {
        // Made just now; or by a process that was killed before it came to the next line.
        let empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if !(user.change && found.uid() == 0 && empty) {
            return Err(wrong_owner());
        }
        lchown(path, Some(user.uid), Some(user.gid)).map_err(io_error("cannot give away", path))?;
    }
    if found.mode() & 0o777 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io_error("cannot close", path))?;
    }
    Ok(())
}

/// The server programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Programs {
    directory: PathBuf,
    version: u32,
}

/// Where server programs may be.
#[derive(Debug)]
struct Search {
    /// `PG_BIN_DIR`: there and nowhere else.
    given: Option<PathBuf>,
    /// Debian's directory with one of each version in it.
    debian: PathBuf,
    /// `PATH`: for `pg_config`, and for the programs themselves.
    path: OsString,
}

impl Search {
    fn of_this_system() -> Self {
        Self {
            given: config::environment("PG_BIN_DIR").map(PathBuf::from),
            debian: PathBuf::from("/usr/lib/postgresql"),
            path: config::environment("PATH").unwrap_or_default().into(),
        }
    }

    /// The programs of this version if there are any, else the first that will do.
    fn programs(&self, wanted: Option<u32>) -> Result<Programs, EmbeddedError> {
        if let Some(given) = &self.given {
            return programs_in(given).ok_or_else(|| EmbeddedError::BadBinDir(given.clone()));
        }
        let found: Vec<_> =
            self.directories().iter().filter_map(|directory| programs_in(directory)).collect();
        let exact = found.iter().find(|programs| wanted == Some(programs.version));
        exact.or(found.first()).cloned().ok_or(EmbeddedError::NoPrograms)
    }

    fn directories(&self) -> Vec<PathBuf> {
        let mut versions: Vec<u32> = fs::read_dir(&self.debian)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        let mut directories: Vec<_> =
            versions.iter().map(|version| self.debian.join(version.to_string()).join("bin")).collect();
        let on_path = || std::env::split_paths(&self.path).filter(|directory| directory.is_absolute());
        if let Some(pg_config) =
            on_path().map(|directory| directory.join("pg_config")).find(|file| file.is_file())
            && let Ok(output) = Command::new(pg_config).arg("--bindir").stdin(Stdio::null()).output()
        {
            directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        }
        directories.extend(on_path());
        directories
    }
}

/// The programs in this directory, when both are there and new enough.
fn programs_in(directory: &Path) -> Option<Programs> {
    if !directory.join("initdb").is_file() {
        return None;
    }
    let version = version_of(&directory.join("postgres"))?;
    (version >= OLDEST_VERSION).then(|| Programs { directory: directory.to_owned(), version })
}

/// The major version that a program of Postgres says it is of.
fn version_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stdout))
}

/// 15 of `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn major_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories with server programs that only know their version.
    fn pretend(directory: &Path, version: &str) {
        fs::create_dir_all(directory).unwrap();
        for program in ["initdb", "postgres"] {
            let written = directory.join("written");
            let script = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version} (Debian {version}-1)'\n");
            fs::write(&written, script).unwrap();
            // Copied by another process: what is open for writing here, or in a child that another test starts just then, cannot be run.
            let path = directory.join(program);
            assert!(
                Command::new("install")
                    .args(["-m", "755"])
                    .args([&written, &path])
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }

    #[test]
    fn server_programs_are_found_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let debian = dir.path().join("debian");
        let on_path = dir.path().join("on_path");
        let mut search =
            Search { given: None, debian: debian.clone(), path: on_path.clone().into_os_string() };
        let found = |search: &Search, wanted| search.programs(wanted).map(|programs| programs.version);

        let message = found(&search, None).unwrap_err().to_string();
        assert_eq!(message.lines().count(), 3);
        for way_out in ["apt-get install postgresql", "PG_BIN_DIR", "DATABASE_URL"] {
            assert!(message.contains(way_out), "{message}");
        }
        pretend(&debian.join("9/bin"), "9.6.24");
        assert!(found(&search, None).is_err(), "too old");
        pretend(&on_path, "18beta1");
        assert_eq!(found(&search, None).unwrap(), 18);
        pretend(&debian.join("15/bin"), "15.14");
        pretend(&debian.join("17/bin"), "17.2");
        fs::create_dir_all(debian.join("20/bin")).unwrap();
        assert_eq!(found(&search, None).unwrap(), 17, "the highest that is whole");
        assert_eq!(found(&search, Some(15)).unwrap(), 15, "the one that made the data");
        assert_eq!(found(&search, Some(14)).unwrap(), 17, "the caller says what is wrong");
        search.given = Some(dir.path().join("nowhere"));
        let message = found(&search, None).unwrap_err().to_string();
        assert!(message.contains("PG_BIN_DIR") && message.contains("nowhere"), "{message}");
        search.given = Some(on_path);
        assert_eq!(found(&search, Some(15)).unwrap(), 18, "nowhere else");
    }

    #[test]
    fn sockets_go_where_their_paths_fit() {
        assert_eq!(socket_directory(Path::new("/srv/data/postgres")), Path::new("/srv/data/postgres/run"));
        for odd in [format!("/srv/{}", "x".repeat(100)), "/srv/a,b".to_owned(), "/srv/a\"b".to_owned()] {
            let short = socket_directory(Path::new(&odd));
            assert!(short.as_os_str().len() < 60, "{}", short.display());
            assert_ne!(short, socket_directory(Path::new(&format!("{odd}/other"))));
        }
    }
}
