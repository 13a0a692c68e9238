# SPDX-License-Identifier: Apache-2.0
# Programs of tests/crash. libfuse3 is a package of the tests, so cutfs is not among `all`.

$(BUILD)/obj/tests/crash/cutfs.o: ALLC += $(shell pkg-config --cflags fuse3 2>/dev/null)
$(BUILD)/tests/cutfs: $(BUILD)/obj/tests/crash/cutfs.o $(call ar,base)
	@mkdir -p $(@D)
	$(LINK) $(base_libs) -lfuse3

unit: $(BUILD)/tests/cutfs
