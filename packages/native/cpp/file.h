// Files and descriptors: what has to happen outside a ring. Reads, writes and flushes go through the ring.
#pragma once

#include <node_api.h>

namespace millrace {

/** fileOpen(path, flags, mode) -> descriptor or negative errno. O_CLOEXEC is always added. */
napi_value FileOpen(napi_env env, napi_callback_info info);
/** descriptorClose(descriptor) -> 0 or negative errno */
napi_value DescriptorClose(napi_env env, napi_callback_info info);
/** fileLock(descriptor) -> 0 or negative errno: an exclusive lock of the open file description, without waiting. */
napi_value FileLock(napi_env env, napi_callback_info info);
/** fileSystem(descriptor) -> { type, blockBytes, freeBytes, totalBytes, deviceMajor, deviceMinor } or negative errno */
napi_value FileSystem(napi_env env, napi_callback_info info);
/** fileSystemSync(descriptor, done): syncfs on a thread of the pool, then done(0 or a negative errno). */
napi_value FileSystemSync(napi_env env, napi_callback_info info);

}  // namespace millrace
