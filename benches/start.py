#!/usr/bin/env python3
"""How soon `afterword serve` is ready on a database that is migrated: until /readyz answers 200. And how large the program is.

small and full are the same, and a number is not used: nothing that is in the database is read at the start.
"""

import re
import subprocess
import time
import urllib.error
import urllib.request

import common


def main() -> None:
    stage = common.Stage("start", small=0, full=0)
    stage.size = 0
    with common.shop() as shop:
        shop.environment["RUST_LOG"] = "info"
        shop.configure((r"listen = ", 'listen = "127.0.0.1:0"'))
        stage.say("starting and stopping")
        for round in stage.rounds:
            log = shop.place / "log"
            began = time.monotonic()
            with log.open("wb") as said:
                serve = subprocess.Popen([shop.program, "serve"], cwd=shop.place, env=shop.environment, stdout=said, stderr=said)
            try:
                address = None
                while address is None:
                    if serve.poll() is not None or time.monotonic() - began > 60:
                        common.fail(f"serve did not become ready:\n{log.read_text()[-2000:]}")
                    time.sleep(0.002)
                    address = re.search(r"ready: pages on http://([\d.:]+)", log.read_text())
                while not is_ready(f"http://{address[1]}/readyz"):
                    time.sleep(0.002)
                seconds = time.monotonic() - began
                stage.sample("afterword serve", round, seconds, 1, common.peak_of(serve.pid))
            finally:
                serve.terminate()
                serve.wait()
    stage.sample("binary size", 1, 0, 0, None, bytes=common.program().stat().st_size)


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status == 200
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return False
        common.fail(f"{address} answers {error.code}")


main()
