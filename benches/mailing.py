"""What the stages that send have in common: a relay, and customers who are due to be asked."""

import contextlib
import os
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import common


def contestant(name: str) -> Path | None:
    """A program of benches/lettre, built where it is not; none where cargo cannot."""
    target = common.TARGET / "lettre"
    cargo = [os.environ.get("CARGO") or "cargo", "build", "--quiet", "--release", "--locked", "--target-dir", target, "--bin", name]
    built = subprocess.run([*cargo, "--manifest-path", common.ROOT / "benches" / "lettre" / "Cargo.toml"], check=False)
    return target / "release" / name if built.returncode == 0 else None


@contextlib.contextmanager
def sink(postfix: Path, libraries: dict):
    """The port of a relay that takes everything and keeps nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # It does not run as root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    relay = subprocess.Popen([postfix / "smtp-sink", *user, f"127.0.0.1:{port}", "1000"], env=libraries)
    try:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        else:
            common.fail("smtp-sink does not listen")
        yield port
    finally:
        relay.terminate()
        relay.wait()


def relay(port: int) -> str:
    """The lines of jobs.toml that name the relay."""
    return f'transport = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"'


def job(name: str) -> str:
    """Lines of jobs.toml for one more job that mails what `send-invitations` mails."""
    return (
        f'\n[jobs.{name}]\nkind = "send_invitations"\nschedule = "*/10 * * * *"\ntimezone = "Europe/Paris"\n'
        f'[jobs.{name}.params]\nsurvey = "satisfaction"\n'
    )


def import_orders(shop: common.Shop, batch: str, n: int) -> None:
    """So many orders that became due, by customers who were never asked."""
    now = datetime.now(UTC)
    delivered, ordered = ((now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") for days in (8, 10))
    with (shop.place / "orders.csv").open("w") as file:
        file.write("order_id,email,ordered_at,fulfilled_at,status,first_name,locale\n")
        for i in range(n):
            who = f"A-{batch}-{i},c{batch}x{i}@customer.example"
            file.write(f"{who},{ordered},{delivered},fulfilled,Claire,{('en', 'fr')[i % 2]}\n")
    shop.run("import", "orders", "--shop", "maison", "orders.csv")


def n_sent(shop: common.Shop) -> int:
    return int(shop.sql("select count(*) from invitation where state = 'sent'"))
