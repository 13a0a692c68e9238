# SPDX-License-Identifier: Apache-2.0
# The clock that stands still, for tests/system/differential.

$(BUILD)/tests/still.so: tests/differential/still.c
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(ALLC) -shared -fPIC -o $@ $<

unit: $(BUILD)/tests/still.so
