// CRC-32 (IEEE 802.3, as in zlib and gzip), alone or while copying, by carry-less multiplication where the CPU can.
#pragma once

#include <node_api.h>

#include <cstdint>

namespace millrace {

/** Continues `seed` (0 to begin) over `length` bytes. */
uint32_t Crc32(uint32_t seed, const uint8_t* bytes, size_t length);
/** The same of `source`, which is copied to `target` in the same pass. The ranges do not overlap. */
uint32_t CopyCrc32(uint32_t seed, uint8_t* target, const uint8_t* source, size_t length);

/** "vpclmul", "pclmul" or "table". */
const char* Crc32Method();

/** checksumBytes(Uint8Array, seed) -> CRC-32 */
napi_value ChecksumBytes(napi_env env, napi_callback_info info);
/** checksumBytesWith(method, Uint8Array, seed): one of the methods by name, for tests; undefined where the CPU lacks it. */
napi_value ChecksumBytesWith(napi_env env, napi_callback_info info);

}  // namespace millrace
