# SPDX-License-Identifier: Apache-2.0
# The daemon on a store in memory (store_mem.c): what the wire tests use to make stores slow, late and
# short of buffers. All of libstore is replaced: the double defines every function of store.h.

$(BUILD)/tests/valcached-mem: $(BUILD)/obj/valcached/main.o $(BUILD)/obj/valcached/privileges.o $(BUILD)/obj/tests/double/store_mem.o \
    $(call ar,options sandbox net proto io admin base)
	@mkdir -p $(@D)
	$(LINK) $(all_libs)

unit: $(BUILD)/tests/valcached-mem
