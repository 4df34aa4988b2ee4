# Shortcuts. What they do in more than a line is in scripts/.

.DEFAULT_GOAL := help
.PHONY: help setup build run test check bench servers

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s  %s\n", $$1, $$2 }' Makefile

setup: ## Get what is missing: C compiler, libclang, redis-server (Debian, Ubuntu)
	@scripts/setup.sh

build: setup ## Build the module
	@scripts/with-module.sh

run: setup ## Start a server with the module to try it (PORT=6379, REDIS_SERVER=redis-server)
	@scripts/run.sh

test: setup ## Run every test
	@scripts/with-module.sh cargo test --workspace

check: setup ## Check the format and the lints
	@scripts/check.sh

bench: setup ## Run the benchmarks
	@scripts/with-module.sh cargo bench --bench locks

servers: ## Fetch further servers to test on, into target/servers
	@scripts/servers.sh
