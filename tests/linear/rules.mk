# SPDX-License-Identifier: Apache-2.0
# The recorder of histories, for tests/system/linear.

$(BUILD)/tests/record: $(BUILD)/obj/tests/linear/record.o $(call ar,ocache base)
	@mkdir -p $(@D)
	$(LINK) -lzstd $(base_libs)

unit: $(BUILD)/tests/record
