# SPDX-License-Identifier: Apache-2.0
# libocache and libefs, shared and static, with what of base/ they need. Each exports the names of its .map alone.

ocache_lib_src := $(ocache_src) base/assert.c base/cause.c base/envelope.c base/ghost.c base/hist.c base/write.c
efs_lib_src    := $(efs_src) base/assert.c base/cause.c base/envelope.c base/write.c
pic             = $(patsubst %.c,$(BUILD)/pic/%.o,$(1))

# One thread-local word of ocache's is found without a call.
$(BUILD)/pic/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALLC) -fPIC -ftls-model=initial-exec -MMD -MP -c -o $@ $<

# $(1): the name; $(2): what the shared one is linked with. nodelete: a thread's end calls into libocache. The
# static one is one object whose other names are its own: they meet none of a program that links it.
define library
$(BUILD)/lib$(1).so.1: $(call pic,$($(1)_lib_src)) $(1)/$(1).map $(filter %.so,$(2))
	$$(call say,LD,$$@) $(CC) $(ALLL) -shared -Wl,-soname,lib$(1).so.1 -Wl,--version-script=$(1)/$(1).map \
	    -Wl,-z,nodelete $(if $(SAN),,-Wl,-z,defs) -o $$@ $$(filter %.o,$$^) $(2)
$(BUILD)/lib$(1).so: $(BUILD)/lib$(1).so.1
	$$(Q)ln -sf lib$(1).so.1 $$@
$(BUILD)/lib$(1).a: $(call pic,$($(1)_lib_src)) $(1)/$(1).map
	$$(call say,AR,$$@) sed -n 's/^\t\([a-z_]*\);$$$$/\1/p' $(1)/$(1).map >$(BUILD)/pic/$(1).names && \
	    $(LD) -r -o $(BUILD)/pic/lib$(1).o $$(filter %.o,$$^) && \
	    objcopy --keep-global-symbols=$(BUILD)/pic/$(1).names $(BUILD)/pic/lib$(1).o && \
	    rm -f $$@ && ar rcs $$@ $(BUILD)/pic/lib$(1).o
# always made anew: PREFIX may be another than last time
.PHONY: $(BUILD)/$(1).pc
$(BUILD)/$(1).pc: $(1)/$(1).pc.in
	@mkdir -p $$(@D)
	$$(call say,DOC,$$@) sed -e 's|@PREFIX@|$$(PREFIX)|g' -e 's|@VERSION@|$$(VERSION)|g' $$< >$$@
endef
$(eval $(call library,ocache,-lzstd -lm))
$(eval $(call library,efs,$(BUILD)/libocache.so -lzstd))

.PHONY: libocache libefs
libocache: $(BUILD)/libocache.so $(BUILD)/libocache.a
libefs: $(BUILD)/libefs.so $(BUILD)/libefs.a

include $(wildcard $(shell test -d $(BUILD)/pic && find $(BUILD)/pic -name '*.d'))
