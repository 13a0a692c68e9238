# SPDX-License-Identifier: Apache-2.0
# The simulation: the store's own sources, built 32 times smaller (valcached/store/shrink.h), on the
# simulated engine; and simulate-full, the same on the store as it is shipped.

SIM_SHRINK    ?= 5
simulate_src  := $(sort $(wildcard tests/simulation/*.c))
# envelope.c is of ocache alone, and wants its library
simulate_obj  := $(patsubst %.c,$(BUILD)/obj/shrunk/%.o,$(simulate_src) \
                   $(filter-out valcached/store/shm.c,$(store_src)) $(io_src) \
                   $(filter-out base/envelope.c,$(base_src)))

# A million schedules are worth a slower build: all of it, io and base, too, in one piece.
SIM_OPT       ?= $(if $(SAN),,-O3 -flto=auto)

$(BUILD)/obj/shrunk/%.o: %.c Makefile tests/simulation/rules.mk
	@mkdir -p $(@D)
	$(call say,CC,$< shrunk) $(CC) $(ALLC) $(SIM_OPT) -DSTORE_SHRINK=$(SIM_SHRINK) -MMD -MP -c -o $@ $<

$(BUILD)/tests/simulate: $(simulate_obj)
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALLL) $(OPT) $(SIM_OPT) -o $@ $(filter %.o,$^) $(io_libs) $(base_libs)
$(BUILD)/tests/simulate-full: $(call obj,$(simulate_src)) $(call ar,store io base)
	@mkdir -p $(@D)
	$(LINK) $(io_libs) $(base_libs)

unit: $(BUILD)/tests/simulate $(BUILD)/tests/simulate-full

# --- runs: CI's, the same under the sanitizers, and the long one, which goes on where it was stopped ----
SIM_JOBS  ?= 2
SIM_CI    ?= 1-20000
SIM_ASAN  ?= 1-300
SIM_SEEDS ?= 1-1000000
SIM_DIR   ?= $(BUILD)/simulate

SIM_TABLE := tests/simulation/coverage.txt
SIM_NAMES := sed -E '/^\#/d; s/ +([0-9]+|-)//g'

.PHONY: simulate simulate-table simulate-asan simulate-long simulate-total
# The committed table has the rows and columns of this one; its numbers are of the day on which it was made.
simulate: $(BUILD)/tests/simulate
	BUILD=$(BUILD) SIM_NO_MAKE=1 tests/simulate --list
	$(BUILD)/tests/simulate --seeds $(SIM_CI) --jobs $(SIM_JOBS) --cover >$(BUILD)/coverage || { cat $(BUILD)/coverage; exit 1; }
	cat $(BUILD)/coverage
	$(SIM_NAMES) $(BUILD)/coverage >$(BUILD)/coverage.names
	$(SIM_NAMES) $(SIM_TABLE) | diff - $(BUILD)/coverage.names
simulate-table: $(BUILD)/tests/simulate
	{ echo '# SPDX-License-Identifier: Apache-2.0'; echo '# simulate --seeds $(SIM_CI) --cover, made by `make simulate-table`'; \
	  $(BUILD)/tests/simulate --seeds $(SIM_CI) --jobs $(SIM_JOBS) --cover; } >$(SIM_TABLE)
simulate-asan:
	+$(MAKE) BUILD=build/asan OPT='-O1 -g' SAN='$(ASAN_FLAGS)' CFLAGS=-DDIAGNOSTIC build/asan/tests/simulate
	build/asan/tests/simulate --seeds $(SIM_ASAN) --jobs $(SIM_JOBS)
simulate-long: $(BUILD)/tests/simulate
	@mkdir -p $(SIM_DIR)
	nice -n 19 $(BUILD)/tests/simulate --seeds $(SIM_SEEDS) --jobs $(SIM_JOBS) --keep-going --shard $(SIM_DIR)/$(SIM_SEEDS)
	$(BUILD)/tests/simulate --total $(SIM_DIR)/*-*[0-9]
simulate-total: $(BUILD)/tests/simulate
	$(BUILD)/tests/simulate --total $(SIM_DIR)/*-*[0-9]
