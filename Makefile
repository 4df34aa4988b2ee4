# Shortcuts. What they do in more than a line is in scripts/.

.DEFAULT_GOAL := help
.PHONY: help setup build run test test-matrix test-redis-py test-rslock test-clients test-monitoring test-packages test-containers test-asan install uninstall dist simulate soak converge stress history history-proof fault-proof fuzz check bench bench-peers cost servers

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s  %s\n", $$1, $$2 }' Makefile

setup: ## Get what is missing: C compiler, libclang, redis-server (Debian, Ubuntu)
	@scripts/setup.sh

build: setup ## Build the module
	@scripts/with-module.sh

run: setup ## Start a server with the module to try it (PORT=6379, REDIS_SERVER=redis-server)
	@scripts/run.sh

test: setup ## Run every test, on redis-server (REDIS_SERVER=redis-server)
	@cargo test --package lock-core --package lock-checker
	@scripts/with-module.sh scripts/on-each-server.sh installed cargo test

test-matrix: test servers ## Run them on the newest of the other servers too, and on the rest what differs between servers
	@scripts/with-module.sh scripts/on-each-server.sh newest cargo test --no-fail-fast
	@scripts/with-module.sh scripts/on-each-server.sh between cargo test --no-fail-fast --test server -- \
		waiting durability cluster

test-redis-py: ## Run redis-py as it comes behind a proxy that loses replies, on redis-server (REDIS_SERVER)
	@scripts/setup.sh pip
	@scripts/with-module.sh scripts/redis-py.sh

test-rslock: setup ## Run the crate rslock beside LOCK.* on the same keys, on redis-server (REDIS_SERVER)
	@scripts/with-module.sh cargo test --package beside-rslock -- --nocapture

test-clients: ## Run the clients' own tests, on redis-server (REDIS_SERVER)
	@scripts/setup.sh pip
	@scripts/with-module.sh scripts/clients.sh

test-monitoring: ## Make each alert of contrib/monitoring happen, before a real exporter and Prometheus (REDIS_SERVER)
	@scripts/setup.sh prometheus
	@scripts/with-module.sh scripts/on-each-server.sh installed cargo test --test monitoring

test-packages: ## Open what make dist ships, install it on clean Debian machines, and remove it again (as root)
	@scripts/setup.sh packages
	@scripts/dist.sh
	@scripts/roots.sh
	@scripts/with-module.sh cargo test --test packages

test-containers: ## Build the images of contrib/containers with buildah, over clean Debian machines, and run them (as root)
	@scripts/setup.sh containers
	@scripts/containers.sh

test-asan: setup ## Run the tests that load the module most under AddressSanitizer (ASAN_TESTS)
	@scripts/asan.sh $(ASAN_TESTS)

install: ## Install the module below /usr (PREFIX, DESTDIR)
	@scripts/install.sh install

uninstall: ## Remove what make install has installed
	@scripts/install.sh uninstall

dist: setup ## Build what is shipped, in target/dist: an archive, a Debian package, an RPM
	@scripts/dist.sh

simulate: ## Run 20,000 random histories of each kind through the core and a model of it (SIMULATION_RUNS)
	@SIMULATION_RUNS=$${SIMULATION_RUNS:-20000} cargo test --release --package lock-core --test simulation

soak: setup ## Have clients contend for 100,000 rounds and see that nothing is left of it
	@scripts/with-module.sh scripts/on-each-server.sh all \
		env REDIS_LOCK_SOAK_ROUNDS=$${REDIS_LOCK_SOAK_ROUNDS:-100000} cargo test --test soak -- --nocapture

converge: setup ## Compare replicas and files with their master after 300 rounds of load and trouble
	@scripts/with-module.sh scripts/on-each-server.sh all \
		env REDIS_LOCK_CONVERGE_ROUNDS=$${REDIS_LOCK_CONVERGE_ROUNDS:-300} cargo test --test server convergence -- --nocapture

stress: setup ## Move slots and fail over under waiting clients for ten minutes (REDIS_LOCK_STRESS_SECONDS)
	@scripts/with-module.sh scripts/on-each-server.sh all \
		env REDIS_LOCK_STRESS_SECONDS=$${REDIS_LOCK_STRESS_SECONDS:-600} cargo test --test server moving_slots -- --nocapture

history: setup ## Check what clients are told while servers fail, a minute for each set-up (REDIS_LOCK_HISTORY_SECONDS)
	@scripts/with-module.sh scripts/history.sh

history-proof: setup ## See that it finds a module that breaks its promises
	@scripts/history-proof.sh

fault-proof: setup ## See that a fault of the module leaves nothing half done
	@scripts/fault-proof.sh

fuzz: ## Fuzz arguments, payloads and the stream of a master, a minute each (FUZZ_SECONDS)
	@scripts/fuzz.sh

check: setup ## Check the format and the lints
	@scripts/check.sh

bench: setup ## Run the benchmarks
	@scripts/with-module.sh cargo bench --bench locks

bench-peers: ## Measure redis-lock beside Redisson, redsync, redis-py, redlock, etcd, PostgreSQL (PEERS_QUICK)
	@scripts/peers.sh

cost: ## Count the instructions of an operation under valgrind; COST_WHERE=1 says where they go
	@scripts/setup.sh valgrind
	@scripts/with-module.sh cargo bench --bench cost

servers: ## Fetch the servers of the test matrix, into target/servers
	@scripts/servers.sh
