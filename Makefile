# Targets: build, docs, install, release, plugin, demo, unit, test, cover, test-engines, test-cluster, soak, bench,
# bench-cluster, bench-compare, benchstat, fuzz, lint, page-libraries, fmt, generate, clean.

GO ?= go

# What is built, for which architecture, where; the same sources and values give the same bytes, with git or without.
ARCH ?= $(shell $(GO) env GOARCH)
BIN ?= bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)

# Packages whose tests need neither Docker nor, most of them, root; the others start Docker Engines.
UNIT = $(shell $(GO) list ./... | grep -v /integration)

# How long `make fuzz` spends on each target, and `make benchstat` repeats each benchmark.
FUZZTIME ?= 10s
COUNT ?= 6

.PHONY: build docs install release plugin plugin-files demo unit test cover test-engines test-cluster soak bench \
	bench-cluster bench-compare benchstat fuzz lint page-libraries fmt generate clean

# nsproc starts at an entry point of its own, which enters the namespace before there is a Go runtime (nsproc/entry_*.s).
# RACE=1 builds a weave with Go's race detector, which needs a C compiler.
build:
	CGO_ENABLED=$(if $(RACE),1,0) GOARCH=$(ARCH) $(GO) build $(if $(RACE),-race) -trimpath -buildvcs=false \
		-ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o $(BIN)/weave ./plugin
	CGO_ENABLED=0 GOARCH=$(ARCH) $(GO) build -trimpath -buildvcs=false \
		-ldflags '-s -w -E weave_nsproc_entry' -o $(BIN)/nsproc ./nsproc

# Man pages and completions of the shells, from the commands themselves.
DOCS ?= build/docs
docs:
	rm -rf $(DOCS)
	CGO_ENABLED=0 $(GO) run -tags docs ./plugin $(DOCS)

# Below PREFIX. Only what one types is in bin: weave, a link to the binary that has nsproc beside it. The docker command
# finds the other link, for `docker weave`.
PREFIX ?= /usr/local
install: prefix = $(DESTDIR)$(PREFIX)
install: build docs
	install -d -m 755 $(prefix)/bin $(prefix)/libexec/weave $(prefix)/libexec/docker/cli-plugins $(prefix)/lib/systemd/system \
		$(prefix)/share/man/man8 $(prefix)/share/bash-completion/completions $(prefix)/share/zsh/site-functions \
		$(prefix)/share/fish/vendor_completions.d $(prefix)/share/doc/weave
	install -m 755 $(BIN)/weave $(BIN)/nsproc $(prefix)/libexec/weave
	ln -sfn ../libexec/weave/weave $(prefix)/bin/weave
	ln -sfn ../../weave/weave $(prefix)/libexec/docker/cli-plugins/docker-weave
	sed 's|/usr/local/bin|$(PREFIX)/bin|' plugin/packaging/weave.service >$(prefix)/lib/systemd/system/weave.service
	chmod 644 $(prefix)/lib/systemd/system/weave.service
	install -m 644 $(DOCS)/man/*.8 $(prefix)/share/man/man8
	install -m 644 $(DOCS)/completions/weave.bash $(prefix)/share/bash-completion/completions/weave
	install -m 644 $(DOCS)/completions/_weave $(prefix)/share/zsh/site-functions
	install -m 644 $(DOCS)/completions/weave.fish $(prefix)/share/fish/vendor_completions.d
	install -m 644 README.md LICENSE CHANGELOG.md $(prefix)/share/doc/weave

# What is published of the commit that is checked out, in build/release.
release:
	plugin/packaging/release.sh build/release

# The managed plugin in build/plugin, and under the name PLUGIN in Docker if it answers; pulls no image. Where images
# can be pulled the Dockerfile makes the same root file system. A name without a tag must not be weave: docs/managed-plugin.md.
PLUGIN ?= weaveplugin/weave:$(ARCH)
plugin: plugin-files
	if docker version >/dev/null 2>&1; then docker plugin create $(PLUGIN) build/plugin; fi

plugin-files:
	rm -rf build/plugin
	plugin/packaging/rootfs.sh build/plugin/rootfs $(ARCH) build/cache
	$(MAKE) --no-print-directory build BIN=build/plugin/rootfs
	cp config.json build/plugin/

# The main job, step by step, on this machine; leaves only Debian packages behind.
demo:
	integration/demo.sh

# As any user, without network.
unit:
	$(GO) test -race $(UNIT)

# Everything, as root; installs the Debian packages that it needs. A few tests that fail are run once more, each by
# itself: what runs beside it may have kept the machine too busy. Both results are printed.
AGAIN = $(GO) tool -modfile=tools/go.mod gotestsum --format standard-quiet --rerun-fails=1 --rerun-fails-max-failures=8 \
	--rerun-fails-run-root-test
test: export WEAVE_TEST_ROOT = 1
test:
	integration/install.sh
	$(MAKE) lint
	$(AGAIN) --packages='$(UNIT)' -- -race -count=1
	$(AGAIN) --packages=./integration/... -- -count=1 -parallel 5 -timeout 45m

# How much of each package the unit tests run, as root: code that runs in processes that a test starts counts too. Then,
# by function: go tool covdata func -i build/cover/data. Line by line: go tool cover -html build/cover/profile.txt.
COVER ?= build/cover
cover: export WEAVE_TEST_ROOT = 1
cover:
	rm -rf $(COVER)
	mkdir -p $(COVER)/data
	$(GO) test -count=1 -cover $(UNIT) -args -test.gocoverdir=$(abspath $(COVER)/data) >$(COVER)/tests.txt || \
		{ cat $(COVER)/tests.txt; exit 1; }
	$(GO) tool covdata textfmt -i $(COVER)/data -o $(COVER)/profile.txt
	$(GO) tool covdata percent -i $(COVER)/data | grep -o 'github\S*\s*coverage: \S*'

# The integration tests beside Docker 20.10, 26.1, 28.5 and 29.8, and the table of what was tested.
ENGINES = docker29 docker29-nftables forky trixie bookworm
test-engines: export WEAVE_TEST_ROOT = 1
test-engines: export WEAVE_TEST_SUITES = 1
test-engines:
	integration/install.sh
	integration/install.sh python3-pytest
	mkdir -p build/engines
	for suite in $(ENGINES); do \
		WEAVE_LAB_SUITE=$$suite $(GO) test -json -count=1 -parallel 3 -timeout 45m ./integration/... >build/engines/$$suite.json; \
	done
	$(GO) run ./integration/engines docs/docker-versions.md $(ENGINES:%=build/engines/%.json)

# Networks between hosts, for longer than in `make test`: endpoints come and go in so many cycles while etcd fails now and
# then, and so many faults happen to hosts that hand out addresses. WEAVE_LAB_SEED=N decides as the run that logged it.
CLUSTER_CYCLES ?= 2000
HISTORY_ROUNDS ?= 60
test-cluster: export WEAVE_TEST_ROOT = 1
test-cluster: export WEAVE_CLUSTER_CYCLES = $(CLUSTER_CYCLES)
test-cluster: export WEAVE_HISTORY_ROUNDS = $(HISTORY_ROUNDS)
test-cluster:
	integration/install.sh
	$(GO) test -v -count=1 -parallel 1 -timeout 2h -run '^(TestEndpointsComeAndGo|TestAddressesHaveOneOwner)$$' ./integration

# Connect and disconnect 2,000 times while weave and dockerd are killed, in some ten minutes; `make test` does it 100 times.
CYCLES ?= 2000
soak: export WEAVE_TEST_ROOT = 1
soak: export WEAVE_CYCLES = $(CYCLES)
soak:
	integration/install.sh
	$(GO) test -v -count=1 -timeout 2h -run '^TestCycles$$' ./integration

# What weave promises, measured against what there is without it, in ten minutes: a table, also in build/bench.json. As
# root. Some of the questions: make bench BENCH='Listing|Nsproc', or Connect, IPAM, ManyNetworks, Memory, Start, Traffic.
BENCH ?= .
bench: export WEAVE_TEST_ROOT = 1
bench:
	integration/install.sh
	integration/install.sh iperf3 util-linux
	$(GO) test -run '^$$' -bench '$(BENCH)' -skip '^BenchmarkCluster' -benchtime 1x -timeout 30m ./integration/bench \
		-args -report $(CURDIR)/build/bench.json

# The same for networks between hosts, against a VXLAN made by hand and Docker's overlay, in ten minutes; also in
# build/bench-cluster.json. Some of the questions: make bench-cluster BENCH='Traffic|Names', or FirstPacket, Scale.
bench-cluster: export WEAVE_TEST_ROOT = 1
bench-cluster:
	integration/install.sh
	integration/install.sh iperf3 util-linux
	$(GO) test -run '^$$' -bench '^BenchmarkCluster.*($(BENCH))' -benchtime 1x -timeout 30m ./integration/bench \
		-args -report $(CURDIR)/build/bench-cluster.json

# The same of another revision and of this tree alternately, in one run: make bench-compare OLD=v1.2.3 BENCH=Listing ROUNDS=3
OLD ?= HEAD
ROUNDS ?= 1
bench-compare: export WEAVE_TEST_ROOT = 1
bench-compare:
	integration/install.sh
	integration/install.sh iperf3 util-linux
	tools/bench-compare.sh '$(OLD)' '$(BENCH)' '$(ROUNDS)'

# The packages' own benchmarks, as input for benchstat.
benchstat:
	$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) $(UNIT)

# Each fuzz target for a short time.
fuzz:
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			echo "$$target in $$file"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file); \
		done; \
	done

# The first run builds the tools, in a minute or two.
lint:
	GO=$(GO) tools/lint.sh

# The libraries of the web page, in plugin/page/files/lib; needs npm. They are checked in, so nothing else needs it.
page-libraries:
	tools/page-libraries.sh

fmt:
	gofmt -w .

generate:
	$(GO) generate ./...

clean:
	rm -rf bin build
