# SPDX-License-Identifier: Apache-2.0
# Targets for people: testing, checking, installing. The Makefile includes this; `make help` lists it.

DESTDIR    ?=
SYSCONFDIR ?= /etc
bindir     := $(DESTDIR)$(PREFIX)/bin
mandir     := $(DESTDIR)$(PREFIX)/share/man
libdir     := $(DESTDIR)$(PREFIX)/lib
incdir     := $(DESTDIR)$(PREFIX)/include
unitdir    := $(DESTDIR)$(PREFIX)/lib/systemd/system
sysusers   := $(DESTDIR)$(PREFIX)/lib/sysusers.d
confdir    := $(DESTDIR)$(SYSCONFDIR)/valcached

.PHONY: help
help:
	@echo 'make [BUILD=build] [CC=gcc] [V=1]'
	@echo
	@echo '  all (default)  every program into $$(BUILD)'
	@echo '  programs       those that are installed: all but the micro-benchmarks'
	@echo '  libocache      the shared and the static library; libefs: the tier of files likewise'
	@echo '  unit           the unit test programs into $$(BUILD)/tests'
	@echo '  test           tests/run: every test of the full set'
	@echo '  libevent       the same on the libevent engine: every test, the daemons with --io=libevent'
	@echo '  clients        client libraries of other registries than Debian'\''s, and all clients on both I/O engines'
	@echo '  asan           ASan + UBSan build in build/asan, unit and wire tests on it'
	@echo '  tsan           TSan build in build/tsan, the threaded tests on it'
	@echo '  valgrind       unit and wire tests of the quick set under valgrind memcheck'
	@echo '  crash          kills, power cuts, torn shared memory: the long sets of tests/crash'
	@echo '  fuzz           libFuzzer on each of tests/fuzz, FUZZ_SECONDS=30 each, FUZZ_SEED=0; fuzz-long: 600'
	@echo '  simulate       20,000 schedules of the simulation; simulate-long SIM_SEEDS=A-B: a shard'
	@echo '  mutation       plants bugs, one at a time, and asks the checkers whether they see them'
	@echo '  coverage       line coverage of the full set by folder; by line in build/coverage/html'
	@echo '  bench          the comparison of bench/ (long)'
	@echo '  format         clang-format in place; format-check only looks'
	@echo '  lint           headers alone, SPDX lines, clang-tidy'
	@echo '  docs           man pages and the example configuration into $$(BUILD)'
	@echo '  install        programs, library, man pages, systemd unit, configuration'
	@echo '                 (PREFIX=$(PREFIX), DESTDIR, SYSCONFDIR=$(SYSCONFDIR))'
	@echo '  uninstall      takes them away again, but for configuration and stores'
	@echo '  clean          removes $$(BUILD)'

# --- tests ----------------------------------------------------------------------------------------

.PHONY: test check
test check:
	tests/run --build $(BUILD)

# A quarter of an hour.
.PHONY: libevent
libevent:
	tests/run --build $(BUILD) --io libevent $(TESTS)

# With those of other registries than Debian's installed no test of a client may skip itself: one that could not be
# installed fails its test, and the others run.
CLIENTS_IO ?= uring libevent
.PHONY: clients
clients:
	tools/client-deps || echo 'clients: what is missing fails'
	@for io in $(CLIENTS_IO); do \
	    echo "clients: on $$io" && tests/run --build $(BUILD) --kind clients --no-skips --io $$io $(TESTS) || exit 1; done

# The sanitizers keep our assertions and switch on the costly ones.
ASAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined
TSAN_FLAGS := -fsanitize=thread

.PHONY: asan tsan valgrind
asan:
	+$(MAKE) BUILD=build/asan OPT='-O1 -g' SAN='$(ASAN_FLAGS)' CFLAGS=-DDIAGNOSTIC all unit
	tests/run --no-make --build build/asan --kind unit,wire $(TESTS)

# clang: gcc 12 warns of every atomic_thread_fence() in a TSan build.
# setarch -R: the runtime gives up where the kernel randomises more address bits than it knows.
tsan:
	+$(MAKE) BUILD=build/tsan CC=clang OPT='-O1 -g' SAN='$(TSAN_FLAGS)' CFLAGS=-DDIAGNOSTIC all unit
	setarch -R tests/run --no-make --build build/tsan --threaded $(TESTS)

VALGRIND := valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite
# without jemalloc: valgrind wants to be the allocator
valgrind:
	+$(MAKE) BUILD=build/valgrind OPT='-O1 -g' JEMALLOC= all unit
	tests/run --no-make --build build/valgrind --set quick --kind unit,wire --wrap '$(VALGRIND)' $(TESTS)

# An hour: 200 kills, 50 power cuts, more than 10,000 places in which memory is torn.
.PHONY: crash
crash:
	tests/run --build $(BUILD) --set long --kind crash $(TESTS)

# --- planted bugs: tests/mutation ------------------------------------------------------------------

.PHONY: mutation
mutation:
	tests/mutation/run

# --- fuzzing: tests/fuzz/<library>-<what>.c with LLVMFuzzerTestOneInput, <what>.dict beside it -----

fuzz_src := $(sort $(wildcard tests/fuzz/*.c))
fuzz_bin := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(fuzz_src))
FUZZ_SECONDS ?= 30
FUZZ_SEED ?= 0

.PHONY: fuzz fuzz-long fuzzers
fuzzers: $(fuzz_bin)
define fuzz_rule
$(BUILD)/fuzz/$(1)-%: $(BUILD)/obj/tests/fuzz/$(1)-%.o $$($(1)_objs) $$(call ar,$$($(1)_deps))
	@mkdir -p $$(@D)
	$$(LINK) -fsanitize=fuzzer $$(all_libs)
endef
$(foreach l,$(filter-out store,$(LIBS)),$(eval $(call fuzz_rule,$(l))))
# the store 32 times smaller, as the simulation has it
$(BUILD)/fuzz/store-%: $(BUILD)/obj/shrunk/tests/fuzz/store-%.o \
    $(patsubst %.c,$(BUILD)/obj/shrunk/%.o,$(store_src)) $(call ar,io base)
	@mkdir -p $(@D)
	$(LINK) -fsanitize=fuzzer $(all_libs)

fuzz:
	+$(MAKE) BUILD=build/fuzz CC=clang OPT='-O1 -g' CFLAGS=-DDIAGNOSTIC \
	    SAN='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined' fuzzers
	BUILD=build/fuzz FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED) tools/fuzz $(FUZZ)
# one at a time, so that the minutes are of CPU time
fuzz-long:
	+FUZZ_JOBS=1 $(MAKE) FUZZ_SECONDS=600 fuzz

# --- checks of the source ---------------------------------------------------------------------------

c_files = $(sort $(shell find base bench datoms efs ocache tests tools valcached -name '*.[ch]'))

.PHONY: format format-check lint
format:
	clang-format -i $(c_files)
format-check:
	@clang-format --dry-run -Werror $(c_files) && echo 'format: clean'
lint:
	CC=$(CC) tools/lint

.PHONY: coverage
LCOV := lcov -q --rc lcov_branch_coverage=1
coverage:
	+$(MAKE) BUILD=build/coverage OPT='-O0 -g' SAN=--coverage all unit
	tests/run --no-make --build build/coverage $(TESTS)
	$(LCOV) -c -d build/coverage -o build/coverage/all.info 2>build/coverage/lcov.log
	$(LCOV) -e build/coverage/all.info '$(CURDIR)/base/*' '$(CURDIR)/datoms/*' '$(CURDIR)/ocache/*' '$(CURDIR)/efs/*' '$(CURDIR)/valcached/*' \
	    '$(CURDIR)/tools/*' -o build/coverage/ours.info
	genhtml -q --branch-coverage -o build/coverage/html build/coverage/ours.info
	@awk -F: '/^SF/ { d = substr($$2, length("$(CURDIR)/") + 1); sub("/[^/]*$$", "", d) } \
	    /^LF/ { lines[d] += $$2; sum += $$2 } /^LH/ { hit[d] += $$2; got += $$2 } \
	    /^BRF/ { branches[d] += $$2; bsum += $$2 } /^BRH/ { bhit[d] += $$2; bgot += $$2 } \
	    function row(d, h, n, bh, bn) { printf "%-24s %5.1f %% of %5d lines, %5.1f %% of %5d branches\n", \
	        d, 100 * h / n, n, bn ? 100 * bh / bn : 100, bn } \
	    END { for (d in lines) row(d, hit[d], lines[d], bhit[d], branches[d]) | "sort"; }' \
	    build/coverage/ours.info
.PHONY: bench
bench: all
	bench/compare

.PHONY: clean
clean:
	rm -rf $(BUILD)

# --- documents and installing -------------------------------------------------------------------------

optdoc_src := $(sort $(wildcard tools/optionsdoc/*.c))
OPTDOC     := $(BUILD)/obj/options-doc
MAN1       := $(patsubst docs/man/%,$(BUILD)/man/%,$(wildcard docs/man/*.1))
MAN3       := $(patsubst docs/man/%,$(BUILD)/man/%,$(wildcard docs/man/*.3))
MAN8       := $(BUILD)/man/valcached.8

$(OPTDOC): $(call obj,$(optdoc_src)) $(call ar,options base)
	$(LINK) -linih $(base_libs)
$(BUILD)/man/%.8: docs/man/%.8.in $(OPTDOC)
	@mkdir -p $(@D)
	$(call say,DOC,$@) $(OPTDOC) man <$< >$@.tmp && mv $@.tmp $@
$(BUILD)/man/%.1: docs/man/%.1
	@mkdir -p $(@D)
	$(call say,DOC,$@) cp $< $@
$(BUILD)/man/%.3: docs/man/%.3
	@mkdir -p $(@D)
	$(call say,DOC,$@) cp $< $@
$(BUILD)/valcached.conf: $(OPTDOC)
	$(call say,DOC,$@) $(OPTDOC) conf >$@.tmp && mv $@.tmp $@
# always made anew: PREFIX may be another than last time
.PHONY: $(BUILD)/valcached.service
$(BUILD)/valcached.service: systemd/valcached.service.in
	@mkdir -p $(@D)
	$(call say,DOC,$@) sed -e 's|@BINDIR@|$(PREFIX)/bin|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' $< >$@.tmp && mv $@.tmp $@

.PHONY: docs install
docs: $(MAN1) $(MAN3) $(MAN8) $(BUILD)/ocache.pc $(BUILD)/efs.pc $(BUILD)/valcached.conf $(BUILD)/valcached.service

OCACHE_H := ocache/ocache.h ocache/tier.h ocache/iostats.h ocache/memcached.h ocache/metrics.h

install: programs libocache libefs docs
	install -d $(bindir) $(libdir)/pkgconfig $(incdir)/ocache $(incdir)/efs $(mandir)/man1 $(mandir)/man3 $(mandir)/man8 $(unitdir) $(sysusers) $(confdir)
	install -m 755 $(PROGRAMS) $(bindir)
	install -m 644 $(MAN1) $(mandir)/man1
	install -m 644 $(MAN3) $(mandir)/man3
	install -m 644 $(MAN8) $(mandir)/man8
	install -m 644 $(OCACHE_H) $(incdir)/ocache
	install -m 644 efs/efs.h $(incdir)/efs
	install -m 644 $(BUILD)/libocache.a $(BUILD)/libocache.so.1 $(BUILD)/libefs.a $(BUILD)/libefs.so.1 $(libdir)
	ln -sf libocache.so.1 $(libdir)/libocache.so
	ln -sf libefs.so.1 $(libdir)/libefs.so
	install -m 644 $(BUILD)/ocache.pc $(BUILD)/efs.pc $(libdir)/pkgconfig
	install -m 644 $(BUILD)/valcached.service $(unitdir)/valcached.service
	install -m 644 systemd/valcached.sysusers $(sysusers)/valcached.conf
	@# a configuration that is there is the operator's
	test -e $(confdir)/valcached.conf || \
	    install -m 644 $(BUILD)/valcached.conf $(confdir)/valcached.conf
	@# so that programs find the libraries; the loader looks at a folder like /usr/local/lib only in its cache
	[ -n '$(DESTDIR)' ] || ldconfig || echo 'The loader was not told of $(libdir): ldconfig, as root, does that'
	@[ -n '$(DESTDIR)' ] || echo 'To start it: systemd-sysusers && systemctl daemon-reload && systemctl enable --now valcached'

.PHONY: uninstall
uninstall:
	rm -f $(addprefix $(bindir)/,$(notdir $(PROGRAMS)))
	rm -f $(addprefix $(mandir)/man1/,$(notdir $(MAN1))) $(mandir)/man8/valcached.8
	rm -f $(addprefix $(mandir)/man3/,$(notdir $(MAN3))) $(addprefix $(incdir)/,$(OCACHE_H) efs/efs.h)
	rm -f $(foreach l,ocache efs,$(addprefix $(libdir)/,lib$(l).a lib$(l).so lib$(l).so.1 pkgconfig/$(l).pc))
	rmdir $(incdir)/ocache $(incdir)/efs 2>/dev/null || true
	rm -f $(unitdir)/valcached.service $(sysusers)/valcached.conf
	[ -n '$(DESTDIR)' ] || ldconfig || true
	@[ -n '$(DESTDIR)' ] || echo 'Left: $(confdir), the user valcached, and the stores'
