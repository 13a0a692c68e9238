# SPDX-License-Identifier: Apache-2.0
# The simulation: the store's own sources, built 32 times smaller (valcached/store/shrink.h), on the
# simulated engine; and simulate-full, the same on the store as it is shipped.

SIM_SHRINK    ?= 5
simulate_src  := $(sort $(wildcard tests/simulation/*.c))
simulate_obj  := $(patsubst %.c,$(BUILD)/obj/shrunk/%.o,$(simulate_src) $(store_src))

$(BUILD)/obj/shrunk/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$< shrunk) $(CC) $(ALLC) -DSTORE_SHRINK=$(SIM_SHRINK) -MMD -MP -c -o $@ $<

$(BUILD)/tests/simulate: $(simulate_obj) $(call ar,io base)
	@mkdir -p $(@D)
	$(LINK) $(io_libs) $(base_libs)
$(BUILD)/tests/simulate-full: $(call obj,$(simulate_src)) $(call ar,store io base)
	@mkdir -p $(@D)
	$(LINK) $(io_libs) $(base_libs)

unit: $(BUILD)/tests/simulate $(BUILD)/tests/simulate-full

# --- runs: CI's, the same under the sanitizers, and the long one (a shard of it by SIM_SEEDS) ------
SIM_JOBS  ?= 2
SIM_SEEDS ?= 1-1000000
SIM_CI    ?= 1-1000

.PHONY: simulate simulate-asan simulate-long
simulate: $(BUILD)/tests/simulate
	BUILD=$(BUILD) SIM_NO_MAKE=1 tests/simulate --list
	$(BUILD)/tests/simulate --seeds $(SIM_CI) --jobs $(SIM_JOBS)
simulate-asan:
	+$(MAKE) BUILD=build/asan OPT='-O1 -g' SAN='$(ASAN_FLAGS)' CFLAGS=-DDIAGNOSTIC build/asan/tests/simulate
	build/asan/tests/simulate --seeds 1-100 --jobs $(SIM_JOBS) --calm
simulate-long: $(BUILD)/tests/simulate
	nice -n 15 $(BUILD)/tests/simulate --seeds $(SIM_SEEDS) --jobs $(SIM_JOBS) --keep-going --cover
