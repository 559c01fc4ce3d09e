"""What every stage's benchmark needs: a throwaway Postgres, a shop in a directory of its own, a clock, and one form of what was measured.

A stage is a program of its own: `benches/<stage>.py [SIZE] [ROUNDS] [PAST]`, where SIZE is `small`, `full` or a number. PAST, which is not 0, is for the
stages that do so and so much of something whatever the shop is like: the orders that it has had before. Stages print their samples on
stdout, a JSON object a line, with PAST for the size where it was given:

    {"stage": "import", "size": 50000, "contestant": "psql \\copy", "round": 1, "seconds": 0.31, "items": 50000, "peak_kib": 14120}

`peak_kib` is null where it was not measured. A contestant that cannot take part has a line with `skipped` and the reason instead.
The program that is measured is that of PROGRAM, and else target/release/afterword.
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
SIZES = ("small", "full")
ROUNDS = 5

# What a made-up shop must not inherit from who runs this.
for name in ("DATABASE_URL", "AFTERWORD_SECRET", "RUST_LOG"):
    os.environ.pop(name, None)
os.environ["NO_COLOR"] = "1"


class Stage:
    """A stage's name, size and rounds, from the command line; and what it prints."""

    def __init__(self, name: str, small: int, full: int):
        words = sys.argv[1:]
        size = words[0] if words else "small"
        if size not in SIZES and not size.isdecimal():
            fail(f"the size is small, full or a number, not {size}")
        self.name = name
        self.size = small if size == "small" else full if size == "full" else int(size)
        self.rounds = range(1, 1 + (int(words[1]) if len(words) > 1 else ROUNDS))
        self.past = int(words[2]) if len(words) > 2 else None

    def sample(self, contestant: str, round: int, seconds: float, items: int, peak_kib: int | None, **more: float) -> None:
        """One measurement; `more` is what else there is to say about it, such as `p99_ms`."""
        words = {"stage": self.name, "size": self.past or self.size, "contestant": contestant, "round": round}
        print(json.dumps(words | {"seconds": round_to(seconds), "items": items, "peak_kib": peak_kib} | more), flush=True)

    def skip(self, contestant: str, why: str) -> None:
        print(json.dumps({"stage": self.name, "size": self.past or self.size, "contestant": contestant, "skipped": why}), flush=True)

    def say(self, what: str) -> None:
        """For who waits."""
        print(f"{self.name}: {what}", file=sys.stderr, flush=True)


def round_to(seconds: float) -> float:
    return round(seconds, 6)


def fail(why: str) -> NoReturn:
    sys.exit(f"{Path(sys.argv[0]).stem}: {why}")


def program() -> Path:
    """The program that is measured."""
    path = Path(os.environ.get("PROGRAM") or TARGET / "release" / "afterword").resolve()
    if not os.access(path, os.X_OK):
        fail(f"there is no {path}; cargo build --release makes it, or PROGRAM names another")
    return path


def tools(script: str) -> Path | None:
    """The directory of programs that a script of scripts/ finds or installs; none where it cannot."""
    done = subprocess.run([ROOT / "scripts" / script], stdout=subprocess.PIPE, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


# What a command took: seconds, and the most memory that it or a child of it had, in KiB. Linux counts what a process had before it became
# another program, so that this never says less than what Python has, some 15 MiB.
def measure(command: list, ok: tuple = (0,), stdout=subprocess.DEVNULL, **how) -> tuple[float, int]:
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], stdout=stdout, stderr=said, **how)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in ok:
            said.seek(0)
            fail(f"{command[0]} ended with {process.returncode}:\n{said.read().decode(errors='replace')[-4000:]}")
    return seconds, used.ru_maxrss


@contextlib.contextmanager
def directory():
    """A place that Postgres's user can reach, which TMPDIR may not be; gone afterwards, also when this is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = Path(tempfile.mkdtemp(prefix="afterword-bench.", dir="/tmp"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Shop:
    """A shop in a directory with its jobs.toml, and its migrated database on a server of its own."""

    def __init__(self, place: Path, programs: Path, sockets: Path):
        self.place = place
        self.programs = programs
        self.sockets = sockets
        self.program = program()
        self.psql = programs / "psql"
        self.environment = os.environ | {
            "DATABASE_URL": f"postgres://afterword@localhost/postgres?host={sockets}",
            "RUST_LOG": "error",
            "PGHOST": str(sockets),
            "PGUSER": "afterword",
            "PGDATABASE": "postgres",
        }

    def configure(self, *changes: tuple[str, str]) -> None:
        """Writes jobs.toml from the shipped one, with lines (regular expressions) replaced, each of which has to be there."""
        text = (self.place / "jobs.shipped").read_text()
        for line, with_ in changes:
            text, n = re.subn(f"(?m)^{line}.*$", with_, text)
            if n == 0:
                fail(f"no line of jobs.toml begins like {line}")
        (self.place / "jobs.toml").write_text(text)

    def run(self, *words, ok: tuple = (0,), **how) -> tuple[float, int]:
        """Measures a command of the program."""
        return measure([self.program, *words], ok, cwd=self.place, env=self.environment, **how)

    def sql(self, text: str, **variables) -> str:
        """What psql answers."""
        given = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
        command = [self.psql, "-XqAt", "-v", "ON_ERROR_STOP=1", *given]
        done = subprocess.run(command, input=text, env=self.environment, cwd=self.place, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            fail(f"psql says:\n{done.stderr[-4000:]}")
        return done.stdout.strip()

    def psql_command(self, text: str) -> list:
        """A command to measure: what psql does with one command of its own, or with statements in one go."""
        return [self.psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", text]

    def measure_psql(self, text: str, **how) -> tuple[float, int]:
        return measure(self.psql_command(text), cwd=self.place, env=self.environment, **how)


@contextlib.contextmanager
def shop(**settings: str):
    """A new shop, with nothing in it. The server has the settings of the private Postgres (src/db/embedded.rs) and commits that are as
    durable; `settings` are more, for a stage that asks for them."""
    programs = tools("postgres.sh")
    if programs is None:
        fail("there are no Postgres server programs")
    with directory() as place:
        user = server_user()
        server = place / "server"
        server.mkdir()
        if user:
            shutil.chown(server, user["user"], user["group"])
        bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        how = {"cwd": server, "env": bare, "stdout": subprocess.DEVNULL} | user

        def call(name: str, *words) -> None:
            subprocess.run([programs / name, "-D", server / "data", *words], check=True, **how)

        call("initdb", "-U", "afterword", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions")
        settings = {"listen_addresses": "", "timezone": "UTC", "jit": "off", "max_connections": "100", "shared_buffers": "1GB"} | settings
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        call("pg_ctl", "start", "-w", "-t", "60", "-l", server / "log", "-o", f"-k {server} -p 5432 {options}")
        try:
            (place / "shop").mkdir()
            made = Shop(place / "shop", programs, server)
            made.run("init")
            shutil.copy(made.place / "jobs.toml", made.place / "jobs.shipped")
            made.run("migrate")
            # The shops of jobs.toml are entered by the first command that looks for them.
            made.run("jobs")
            yield made
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                call("pg_ctl", "stop", "-m", "immediate")


def server_user() -> dict:
    """Postgres refuses to run as root; then it is another's."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    fail("there is neither a user postgres nor nobody to run Postgres as")


def with_values(statement: Path, values: dict[int, str]) -> str:
    """A statement of the program with its parameters as values, in one line."""
    text = re.sub(r"--.*", "", statement.read_text())
    return " ".join(re.sub(r"\$(\d+)", lambda found: f"({values[int(found[1])]})", text).split())


def peak_of(process: int) -> int:
    """The most memory that a running process has had, in KiB."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())[1])
