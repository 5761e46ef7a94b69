// The entry points by which JavaScript opens, enters and closes rings.
#pragma once

#include <node_api.h>

namespace millrace {

/**
 * ringOpen(entries, completions, allowedFlags) -> { handle, flags, features, ring, sqes, control: ArrayBuffer, and
 * offsets in u32 words } or { call, errno } when the kernel refuses
 */
napi_value RingOpen(napi_env env, napi_callback_info info);
/** ringStart(ring, turn): calls `turn(woken)` from now on; see loop.h. Once. */
napi_value RingStart(napi_env env, napi_callback_info info);
/** ringReference(ring): the ring keeps the loop alive until `control.active` is 0 before a wait. */
napi_value RingReference(napi_env env, napi_callback_info info);
/** ringEnter(ring, submit, minComplete, flags) -> submissions taken, or negative errno */
napi_value RingEnter(napi_env env, napi_callback_info info);
/** ringRegisterBufferTable(ring, slots) -> 0 or negative errno */
napi_value RingRegisterBufferTable(napi_env env, napi_callback_info info);
/** ringRegisterBuffer(ring, slot, arena) -> 1 or negative errno: the whole arena, pinned and committed */
napi_value RingRegisterBuffer(napi_env env, napi_callback_info info);
/** ringRegisterBufferRing(ring, group, entries, arena, offset) -> 0 or negative errno */
napi_value RingRegisterBufferRing(napi_env env, napi_callback_info info);
/** ringClose(ring, waitMs) -> operations still in flight; above 0 the ring was leaked on purpose */
napi_value RingClose(napi_env env, napi_callback_info info);

}  // namespace millrace
