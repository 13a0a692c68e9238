# SPDX-License-Identifier: Apache-2.0
# The model checker, for tests/system/model. Built with the unit tests; it needs no part of the daemon.

model_src := $(sort $(wildcard tests/model/*.c))
$(BUILD)/tests/model: $(call obj,$(model_src)) $(call ar,base)
	@mkdir -p $(@D)
	$(LINK) $(base_libs)

unit: $(BUILD)/tests/model
