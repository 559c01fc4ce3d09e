#!/usr/bin/env python3
"""A relay that is far away: every answer comes 20 ms after its question (benches/lettre, far-relay). How many mails leave over 1, 8, 32 and 64
connections, beside one mail a connection in four round trips, which is what a client comes to that asks one thing at a time and does
nothing else; and the same of a relay that takes one command at a time.

small: 40 mails a connection; full: 200. What is measured is the time from the first mail's beginning to the last one's end, by the ledger.
"""

import contextlib
import subprocess

import common
import mailing

CONNECTIONS = (1, 8, 32, 64)
AWAY = 0.02
ROUND_TRIPS = 4


def main() -> None:
    stage = common.Stage("relay", small=40, full=200)
    program = mailing.contestant("far-relay")
    if program is None:
        common.fail("cargo could not build benches/lettre")
    with common.shop() as shop:
        for round in stage.rounds:
            for words, kind in ((), ""), (("one-at-a-time",), ", one command at a time"):
                with far_relay(program, words) as port:
                    for connections in CONNECTIONS:
                        n = stage.size * connections
                        mailing.import_orders(shop, f"{round}-{connections}{'-'.join(words)}", n)
                        shop.configure(
                            ("send_window = ", ""),
                            ("transport = ", mailing.relay(port)),
                            ("max_connections = 4 ", f"max_connections = {connections} "),
                        )
                        before = shop.sql("select coalesce(max(started_at), '-infinity') from attempt")
                        _, peak_kib = shop.run("run", "send-invitations")
                        sent, seconds = shop.sql(
                            "select count(*), extract(epoch from max(i.sent_at) - min(a.started_at))"
                            " from attempt a join invitation i using (shop_id, invitation_id)"
                            f" where a.outcome = 'sent' and a.started_at > '{before}'"
                        ).split("|")
                        if int(sent) != n:
                            common.fail(f"{sent} mails were sent, not {n}")
                        stage.sample(f"afterword, {connections} connections{kind}", round, float(seconds), n, peak_kib)
                        # Computed: this is what the distance allows.
                        stage.sample(f"four round trips, {connections} connections", round, stage.size * ROUND_TRIPS * AWAY, n, None)


@contextlib.contextmanager
def far_relay(program, words: tuple):
    """The port of a relay that is far away."""
    relay = subprocess.Popen([program, str(round(AWAY * 1000)), *words], stdout=subprocess.PIPE, text=True)
    try:
        yield int(relay.stdout.readline())
    finally:
        relay.terminate()
        relay.wait()


main()
