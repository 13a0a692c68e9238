# SPDX-License-Identifier: Apache-2.0
# valcached: one plain Makefile. `make help` lists the targets.
# Every folder is an archive of its sorted *.c files; programs are listed with the archives they need.

BUILD   ?= build
PREFIX  ?= /usr/local
ifeq ($(origin CC),default)
CC      := gcc
endif
VERSION := 1.0.0

WARN    := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef
OPT     ?= -O2 -g
SAN     ?=
CFLAGS  ?=
ALLC    := -std=gnu11 $(OPT) $(SAN) $(WARN) -fno-strict-aliasing -fno-omit-frame-pointer -pthread \
           -D_GNU_SOURCE -DVALCACHED_VERSION='"$(VERSION)"' -I. $(CFLAGS)
# Sanitizers and coverage make system calls of their own: no sandbox.
ALLC    += $(if $(SAN),-DINSTRUMENTED)
ALLL    := $(SAN) -pthread $(LDFLAGS)

ifeq ($(V),1)
  Q :=
  say =
else
  Q := @
  say = @printf '  %-6s %s\n' $(1) $(2);
endif

# --- libraries inside the house (arrows point down: net -> store, proto, io -> base) ------------
base_src  := $(sort $(wildcard base/*.c))
io_src    := $(sort $(wildcard valcached/io/*.c))
proto_src := $(sort $(wildcard valcached/proto/*.c))
store_src := $(sort $(wildcard valcached/store/*.c))
net_src   := $(sort $(wildcard valcached/net/*.c))
admin_src := $(sort $(wildcard valcached/admin/*.c))
sandbox_src := $(sort $(wildcard valcached/sandbox/*.c))
ocache_src := $(sort $(wildcard ocache/*.c))
efs_src   := $(sort $(wildcard efs/*.c))
datoms_src := $(sort $(wildcard datoms/*.c))
options_src := $(sort $(wildcard valcached/options*.c))
main_src  := $(filter-out $(options_src),$(sort $(wildcard valcached/*.c)))
ctl_src   := $(sort $(wildcard tools/valcachectl/*.c))
bench_src := $(sort $(wildcard bench/valbench/*.c))
null_src  := $(sort $(wildcard bench/nullserver/*.c))
replay_src := $(sort $(wildcard bench/replay/*.c))
sim_src   := $(sort $(wildcard bench/sim/*.c))
policies_src := $(sort $(wildcard bench/policies/*.c))
micro_src := $(sort $(wildcard bench/micro/*.c))
segments_src := $(sort $(wildcard bench/segments/*.c))

LIBS := base options sandbox io proto store net admin ocache efs datoms
obj   = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
ar    = $(patsubst %,$(BUILD)/obj/lib%.a,$(1))

io_libs    := -luring -levent_core
base_libs  := -lxxhash -lm
all_libs   := -luring -levent_core -lxxhash -lzstd -linih -lseccomp -lsystemd -lssl -lcrypto -lm

# What is installed, and needs no more than `tools/deps run`; the micro-benchmarks need C++.
PROGRAMS := $(addprefix $(BUILD)/,valcached valcachectl valbench nullserver replay)

.PHONY: all programs
all: programs libocache libefs $(addprefix $(BUILD)/,micro policies ocache-speed segments)
programs: $(PROGRAMS)

define archive
$(BUILD)/obj/lib$(1).a: $(call obj,$($(1)_src))
	$$(call say,AR,$$@) rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach l,$(LIBS) sim,$(eval $(call archive,$(l))))

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALLC) -MMD -MP -c -o $@ $<

LINK = $(call say,LD,$@) $(CC) $(ALLL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group

# jemalloc serves the daemon only; sanitizers and valgrind bring allocators of their own.
JEMALLOC ?= $(if $(SAN),,-ljemalloc)

$(BUILD)/valcached: $(call obj,$(main_src)) $(call ar,options sandbox net store proto io admin base)
	@mkdir -p $(@D)
	$(LINK) $(all_libs) $(JEMALLOC)
$(BUILD)/valcachectl: $(call obj,$(ctl_src)) $(call ar,base)
	@mkdir -p $(@D)
	$(LINK) $(base_libs)
$(BUILD)/valbench: $(call obj,$(bench_src)) $(call ar,base)
	@mkdir -p $(@D)
	$(LINK) $(base_libs)
$(BUILD)/nullserver: $(call obj,$(null_src)) $(call ar,io base)
	@mkdir -p $(@D)
	$(LINK) $(io_libs) $(base_libs)
$(BUILD)/replay: $(call obj,$(replay_src)) $(call ar,sim ocache store io base)
	@mkdir -p $(@D)
	$(LINK) $(io_libs) $(base_libs) -lzstd

$(BUILD)/policies: $(call obj,$(policies_src)) $(call ar,sim ocache base)
	@mkdir -p $(@D)
	$(LINK) $(base_libs) -lzstd
$(BUILD)/ocache-speed: $(call obj,bench/rivals/ocache.c) $(call ar,sim ocache base)
	@mkdir -p $(@D)
	$(LINK) $(base_libs) -lzstd

$(BUILD)/segments: $(call obj,$(segments_src)) $(call ar,datoms efs ocache base)
	@mkdir -p $(@D)
	$(LINK) $(base_libs) -lzstd

# Google Benchmark is C++: one file of ours speaks it, the benchmarks are C.
CXX ?= g++
$(BUILD)/obj/bench/micro/harness.o: bench/micro/harness.cc Makefile
	@mkdir -p $(@D)
	$(call say,CXX,$<) $(CXX) -std=gnu++17 $(OPT) $(SAN) -Wall -Wextra -pthread -I. -MMD -MP -c -o $@ $<
$(BUILD)/micro: $(call obj,$(micro_src)) $(BUILD)/obj/bench/micro/harness.o $(call ar,ocache store proto io base)
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CXX) $(ALLL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
	    -lbenchmark $(all_libs)

# --- unit tests: tests/unit/<library>-<what>.c, linked with that library and what is below it ---
unit_src := $(sort $(wildcard tests/unit/*.c))
unit_bin := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(unit_src))
base_deps  := base
options_deps := options base
io_deps    := io base
proto_deps := proto base
store_deps := store io base
net_deps   := net options proto io admin sandbox base
net_objs   := $(BUILD)/obj/tests/double/store_mem.o
sandbox_deps := sandbox io base
admin_deps := admin net options store proto io sandbox base
ocache_deps := ocache base
efs_deps   := efs ocache base
datoms_deps := datoms efs ocache base
# the account of bytes is held against the memory of the allocator that the daemon has
$(BUILD)/tests/ocache-account: all_libs += $(JEMALLOC)
ocache_objs := $(BUILD)/obj/ocache/skeleton/tier.o

.PHONY: unit
unit: $(unit_bin)
define unit_rule
$(BUILD)/tests/$(1)-%: $(BUILD)/obj/tests/unit/$(1)-%.o $$($(1)_objs) $$(call ar,$$($(1)_deps))
	@mkdir -p $$(@D)
	$$(LINK) -lcmocka $$(all_libs)
endef
$(foreach l,$(LIBS),$(eval $(call unit_rule,$(l))))
.SECONDARY:

include $(wildcard $(shell test -d $(BUILD)/obj && find $(BUILD)/obj -name '*.d'))

# --- targets for people -------------------------------------------------------------------------
include ocache/rules.mk
include tests/double/rules.mk
include tests/model/rules.mk
include tests/crash/rules.mk
include tests/linear/rules.mk
include tests/differential/rules.mk
include tests/simulation/rules.mk
-include tools/targets.mk
