# SPDX-License-Identifier: Apache-2.0
# Targets for people: testing, checking, installing. The Makefile includes this; `make help` lists it.

DESTDIR    ?=
SYSCONFDIR ?= /etc
bindir     := $(DESTDIR)$(PREFIX)/bin
mandir     := $(DESTDIR)$(PREFIX)/share/man
unitdir    := $(DESTDIR)$(PREFIX)/lib/systemd/system
sysusers   := $(DESTDIR)$(PREFIX)/lib/sysusers.d
confdir    := $(DESTDIR)$(SYSCONFDIR)/valcached

.PHONY: help
help:
	@echo 'make [BUILD=build] [CC=gcc] [V=1]'
	@echo
	@echo '  all (default)  every program into $$(BUILD)'
	@echo '  programs       those that are installed: all but the micro-benchmarks'
	@echo '  unit           the unit test programs into $$(BUILD)/tests'
	@echo '  test           tests/run: every test of the full set'
	@echo '  asan           ASan + UBSan build in build/asan, unit and wire tests on it'
	@echo '  tsan           TSan build in build/tsan, the threaded tests on it'
	@echo '  valgrind       unit and wire tests of the quick set under valgrind memcheck'
	@echo '  crash          kills, power cuts, torn shared memory: the long sets of tests/crash'
	@echo '  fuzz           libFuzzer on each of tests/fuzz, FUZZ_SECONDS=30 each, FUZZ_SEED=0'
	@echo '  simulate       schedules of the simulation (SIM_CI=1-1000); simulate-long: a million'
	@echo '  mutation       plants bugs, one at a time, and asks the checkers whether they see them'
	@echo '  coverage       line coverage of the full set by folder; by line in build/coverage/html'
	@echo '  bench          the comparison of bench/ (long)'
	@echo '  format         clang-format in place; format-check only looks'
	@echo '  lint           headers alone, SPDX lines, clang-tidy'
	@echo '  docs           man pages and the example configuration into $$(BUILD)'
	@echo '  install        programs, man pages, systemd unit, configuration'
	@echo '                 (PREFIX=$(PREFIX), DESTDIR, SYSCONFDIR=$(SYSCONFDIR))'
	@echo '  uninstall      takes them away again, but for configuration and stores'
	@echo '  clean          removes $$(BUILD)'

# --- tests ----------------------------------------------------------------------------------------

.PHONY: test check
test check:
	tests/run --build $(BUILD)

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

.PHONY: fuzz fuzzers
fuzzers: $(fuzz_bin)
define fuzz_rule
$(BUILD)/fuzz/$(1)-%: $(BUILD)/obj/tests/fuzz/$(1)-%.o $$($(1)_objs) $$(call ar,$$($(1)_deps))
	@mkdir -p $$(@D)
	$$(LINK) -fsanitize=fuzzer $$(all_libs)
endef
$(foreach l,$(LIBS),$(eval $(call fuzz_rule,$(l))))

fuzz:
	+$(MAKE) BUILD=build/fuzz CC=clang OPT='-O1 -g' CFLAGS=-DDIAGNOSTIC \
	    SAN='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined' fuzzers
	BUILD=build/fuzz FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED) tools/fuzz $(FUZZ)

# --- checks of the source ---------------------------------------------------------------------------

c_files = $(sort $(shell find base bench tests tools valcached -name '*.[ch]'))

.PHONY: format format-check lint
format:
	clang-format -i $(c_files)
format-check:
	@clang-format --dry-run -Werror $(c_files) && echo 'format: clean'
lint:
	CC=$(CC) tools/lint

.PHONY: coverage
coverage:
	+$(MAKE) BUILD=build/coverage OPT='-O0 -g' SAN=--coverage all unit
	tests/run --no-make --build build/coverage
	lcov -q -c -d build/coverage -o build/coverage/all.info 2>build/coverage/lcov.log
	lcov -q -e build/coverage/all.info '$(CURDIR)/base/*' '$(CURDIR)/valcached/*' \
	    '$(CURDIR)/tools/*' -o build/coverage/ours.info
	genhtml -q -o build/coverage/html build/coverage/ours.info
	@awk -F: '/^SF/ { d = substr($$2, length("$(CURDIR)/") + 1); sub("/[^/]*$$", "", d) } \
	    /^LF/ { all[d] += $$2; sum += $$2 } /^LH/ { hit[d] += $$2; got += $$2 } \
	    END { for (d in all) printf "%-24s %5.1f %% of %5d lines\n", d, 100 * hit[d] / all[d], all[d] | "sort"; \
	          close("sort"); printf "%-24s %5.1f %% of %5d lines\n", "in all", 100 * got / sum, sum }' \
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
MAN8       := $(BUILD)/man/valcached.8

$(OPTDOC): $(call obj,$(optdoc_src)) $(call ar,options base)
	$(LINK) -linih $(base_libs)
$(BUILD)/man/%.8: docs/man/%.8.in $(OPTDOC)
	@mkdir -p $(@D)
	$(call say,DOC,$@) $(OPTDOC) man <$< >$@.tmp && mv $@.tmp $@
$(BUILD)/man/%.1: docs/man/%.1
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
docs: $(MAN1) $(MAN8) $(BUILD)/valcached.conf $(BUILD)/valcached.service

install: programs docs
	install -d $(bindir) $(mandir)/man1 $(mandir)/man8 $(unitdir) $(sysusers) $(confdir)
	install -m 755 $(PROGRAMS) $(bindir)
	install -m 644 $(MAN1) $(mandir)/man1
	install -m 644 $(MAN8) $(mandir)/man8
	install -m 644 $(BUILD)/valcached.service $(unitdir)/valcached.service
	install -m 644 systemd/valcached.sysusers $(sysusers)/valcached.conf
	@# a configuration that is there is the operator's
	test -e $(confdir)/valcached.conf || \
	    install -m 644 $(BUILD)/valcached.conf $(confdir)/valcached.conf
	@[ -n '$(DESTDIR)' ] || echo 'To start it: systemd-sysusers && systemctl daemon-reload && systemctl enable --now valcached'

.PHONY: uninstall
uninstall:
	rm -f $(addprefix $(bindir)/,$(notdir $(PROGRAMS)))
	rm -f $(addprefix $(mandir)/man1/,$(notdir $(MAN1))) $(mandir)/man8/valcached.8
	rm -f $(unitdir)/valcached.service $(sysusers)/valcached.conf
	@[ -n '$(DESTDIR)' ] || echo 'Left: $(confdir), the user valcached, and the stores'
