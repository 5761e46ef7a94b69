// Arguments and errors at the border to JavaScript: whatever is wrong becomes a typed error, never undefined behaviour.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

namespace millrace {

constexpr uint64_t kMaxSafeInteger = (uint64_t{1} << 53) - 1;

/** Errors carry `code`: ERR_MILLRACE_ARGUMENT (TypeError), _RANGE (RangeError), _CLOSED and _SYSTEM (Error, `errno`). */
void ThrowType(napi_env env, const std::string& message);
void ThrowRange(napi_env env, const std::string& message);
void ThrowClosed(napi_env env, const std::string& message);
void ThrowSystem(napi_env env, const char* call, int error);

/**
 * The arguments of one call. Each reader checks one argument and returns false with a JavaScript exception pending
 * when it is unusable; entry points chain them with `&&` and return null at the first failure.
 */
class Arguments {
 public:
  static constexpr size_t kMost = 8;

  Arguments(napi_env env, napi_callback_info info, const char* function);

  napi_env env() const { return env_; }
  void* data() const { return data_; }

  /** An integer in [0, limit]. */
  bool Unsigned(size_t index, const char* name, uint64_t limit, uint64_t* out) const;
  bool Unsigned32(size_t index, const char* name, uint32_t* out) const;
  /** A file descriptor: an integer in [0, 2^31). */
  bool Descriptor(size_t index, const char* name, int* out) const;
  /** Text of at most `mostBytes` UTF-8 bytes, without a NUL. */
  bool Text(size_t index, const char* name, size_t mostBytes, std::string* out) const;
  bool Function(size_t index, const char* name, napi_value* out) const;
  /** The bytes of a Uint8Array; a length of 0 may come with a null pointer. */
  bool Bytes(size_t index, const char* name, const uint8_t** out, size_t* length) const;

 private:
  std::string Describe(size_t index, const char* name) const;

  napi_env env_;
  const char* function_;
  size_t count_ = kMost;
  napi_value values_[kMost] = {};
  void* data_ = nullptr;
};

/** Null (with an exception pending) when the engine refuses. */
napi_value Number(napi_env env, double value);
napi_value Undefined(napi_env env);

/** Memory of the addon as an ArrayBuffer that owns nothing; null and no exception when the runtime forbids them. */
napi_value ExternalArrayBuffer(napi_env env, void* memory, size_t bytes);

}  // namespace millrace
