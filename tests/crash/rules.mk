# SPDX-License-Identifier: Apache-2.0
# Programs of tests/crash. libfuse3 is a package of the tests, so cutfs is not among `all`.

$(BUILD)/obj/tests/crash/cutfs.o: ALLC += $(shell pkg-config --cflags fuse3 2>/dev/null)
$(BUILD)/tests/cutfs: $(BUILD)/obj/tests/crash/cutfs.o $(call ar,base)
	@mkdir -p $(@D)
	$(LINK) $(base_libs) -lfuse3

unit: $(BUILD)/tests/cutfs

# Shared memory torn anywhere: the store smaller, as in the simulation, but compiled as it is shipped: each
# instruction of it counts.
torn_obj := $(patsubst %.c,$(BUILD)/obj/torn/%.o,$(sort $(wildcard tests/crash/torn*.c)) \
    tests/crash/step.c tests/crash/mapped.c $(store_src))
$(BUILD)/obj/torn/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$< shrunk) $(CC) $(ALLC) -DSTORE_SHRINK=5 -MMD -MP -c -o $@ $<
$(BUILD)/tests/torn: $(torn_obj) $(call ar,io base)
	@mkdir -p $(@D)
	$(LINK) -lcmocka $(io_libs) $(base_libs)

unit: $(BUILD)/tests/torn
