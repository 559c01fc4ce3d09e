#!/usr/bin/env python3
"""How fast invitations leave, end to end: decide, write, SMTP and ledger, into Postfix's smtp-sink; beside Postfix's smtp-source, which only
speaks SMTP, with mails of the same size into the same sink.

small: 3,000 mails a turn; full: 20,000. The program sends over 8 connections, like smtp-source, and then over 32.
"""

import contextlib
import os
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import common

CONNECTIONS = (8, 32)


def main() -> None:
    stage = common.Stage("send", small=3_000, full=20_000)
    n = stage.size
    postfix = common.tools("postfix.sh")
    if postfix is None:
        common.fail("without smtp-sink there is nothing to send to")
    stage.skip("lettre, pooled, 32 connections", "nobody has written that client yet")
    stage.skip("graphile-worker with nodemailer", "nobody has written that queue yet")
    libraries = os.environ | {"LD_LIBRARY_PATH": str(postfix.parent / "lib" / "postfix")}
    with common.shop() as shop, sink(postfix, libraries) as port:
        relay = f'transport = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"'
        shop.configure(("send_window = ", ""))
        # The size of a mail, from one that is written as a file.
        import_orders(shop, "size", 1)
        shop.run("run", "send-invitations")
        size = sum(path.stat().st_size for path in (shop.place / "data" / "outbox").glob("*.eml"))
        stage.say(f"{n} mails of {size} bytes a turn")
        source = [postfix / "smtp-source", "-s", 8, "-d", "-m", n, "-l", size, "-f", "a@shop.example", "-t", "b@customer.example"]
        for round in stage.rounds:
            took = common.measure([*source, f"127.0.0.1:{port}"], env=libraries)
            stage.sample("smtp-source", round, took[0], n, took[1])
            for connections in CONNECTIONS:
                import_orders(shop, f"{round}-{connections}", n)
                shop.configure(
                    ("send_window = ", ""),
                    ("transport = ", relay),
                    ("max_connections = 4 ", f"max_connections = {connections} "),
                )
                before = n_sent(shop)
                took = shop.run("run", "send-invitations")
                sent = n_sent(shop) - before
                if sent != n:
                    common.fail(f"{sent} mails were sent, not {n}")
                stage.sample(f"afterword, {connections} connections", round, took[0], n, took[1])


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


main()
