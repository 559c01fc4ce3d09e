# What a person types here: `make demo` to look at it, `make test` and `make check` before a commit. Rust and make are enough;
# Postgres's server programs are installed where that is allowed.

CARGO ?= cargo
ARGS ?=
STAGE ?=
SIZE ?= small
ROUNDS ?= 5
GROWTH ?=

.DEFAULT_GOAL := help
.PHONY: help demo test soak check bench sqlx deb try postgres postfix pgbouncer prometheus schemathesis chromium libreoffice

help: ## Show this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)$$/make \1\t\2/p' Makefile | expand -t 16

demo: postgres ## The whole way with a made-up shop, then the pages to look at (ARGS=--exit ends by itself)
	@echo "Building afterword; the first time takes some minutes."
	@$(CARGO) build
	@$(CARGO) run --quiet -- demo $(ARGS)

test: postgres postfix pgbouncer prometheus schemathesis chromium libreoffice ## All tests, and a list of what was skipped (ARGS goes to cargo test)
	@scripts/test.sh $(ARGS)

soak: postgres schemathesis ## The kill tests at length: 10,000 mails and 200 kills, and as much of the other faults; ten minutes of killed instances; 5,000 steps of the clocks; crowds for a minute; 5,000 cases for the private API; an hour with everything going wrong
	@AFTERWORD_SOAK=1 scripts/test.sh --test it -- kill:: wire:: instances:: clocks:: collect::half_open periods:: private_jobs::whatever soak:: --nocapture --test-threads 1

# Clippy's run includes `unused_crate_dependencies` of src/lib.rs, which is the check for unused dependencies. sqlx comes first because
# the compiler's errors about queries are the ones to read first.
check: postgres ## What must hold before a commit: format, .sqlx, lints, unused dependencies, documentation, licences and sources of what is built in
	$(CARGO) fmt --check
	scripts/sqlx.sh --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items
	@scripts/deny.sh

# PROGRAM names another program than what is built here.
bench: postgres ## How fast each stage is, beside others: STAGE=import|decide|send|relay|collect|metrics|export|start SIZE=small|full ROUNDS=5 (benches/README.md)
ifndef PROGRAM
	@$(CARGO) build --release
endif
	@benches/run.py $(STAGE) --size $(SIZE) --rounds $(ROUNDS) $(if $(GROWTH),--growth $(GROWTH)) $(ARGS)

sqlx: postgres ## Write .sqlx anew, after a query or a migration has changed
	@scripts/sqlx.sh

deb: ## The Debian package, in target/debian; wants `cargo install cargo-deb`
	@packaging/deb.sh $(ARGS)

try: deb ## That package in a Debian that is booted for it: installed, killed, upgraded, purged; wants root, debootstrap and systemd-container
	@packaging/try.sh "$$(ls -t target/debian/afterword_*.deb | head -1)"

postgres:
	@scripts/postgres.sh >/dev/null

# Without these some tests are skipped, and say so.
postfix:
	@scripts/postfix.sh >/dev/null || true

pgbouncer:
	@scripts/pgbouncer.sh >/dev/null || true

prometheus:
	@scripts/prometheus.sh --install >/dev/null || true

schemathesis:
	@scripts/schemathesis.sh --install >/dev/null || true

chromium:
	@scripts/chromium.sh >/dev/null || true
	@scripts/axe.sh >/dev/null || true

libreoffice:
	@scripts/libreoffice.sh >/dev/null || true
