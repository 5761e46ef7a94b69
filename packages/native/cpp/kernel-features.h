// What this kernel and this process allow, found out by trying rather than by version.
#pragma once

#include <node_api.h>

namespace millrace {

/**
 * kernelFeatures() -> {
 *   release, setup: { call, errno } | null, setupFlags, features, missingOperations: string[],
 *   bufferRing, fixedBuffers, socketCalls: 0 or negative errno, externalBuffers, lockedMemoryBytes,
 *   disabledBySysctl: number | null, checksum
 * }
 */
napi_value KernelFeatures(napi_env env, napi_callback_info info);
/** layout() -> sizes, offsets and constants by name, for the test that holds src/layout.ts equal to io-uring-abi.h. */
napi_value Layout(napi_env env, napi_callback_info info);

}  // namespace millrace
