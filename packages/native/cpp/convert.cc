// Checks of arguments and making of errors; see convert.h.
#include "convert.h"

#include <cmath>
#include <cstring>

namespace millrace {

namespace {

using MakeError = napi_status (*)(napi_env, napi_value, napi_value, napi_value*);

void Throw(napi_env env, MakeError make, const char* code, const std::string& message, int error, const char* call) {
  napi_value codeValue, messageValue, errorValue;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &codeValue) != napi_ok) return;
  if (napi_create_string_utf8(env, message.data(), message.size(), &messageValue) != napi_ok) return;
  if (make(env, codeValue, messageValue, &errorValue) != napi_ok) return;
  if (call != nullptr) {
    Napi::Object object(env, errorValue);
    object.Set("errno", Napi::Number::New(env, error));
    object.Set("syscall", Napi::String::New(env, call));
  }
  napi_throw(env, errorValue);
}

}  // namespace

void ThrowType(napi_env env, const std::string& message) {
  Throw(env, napi_create_type_error, "ERR_MILLRACE_ARGUMENT", message, 0, nullptr);
}

void ThrowRange(napi_env env, const std::string& message) {
  Throw(env, napi_create_range_error, "ERR_MILLRACE_RANGE", message, 0, nullptr);
}

void ThrowClosed(napi_env env, const std::string& message) {
  Throw(env, napi_create_error, "ERR_MILLRACE_CLOSED", message, 0, nullptr);
}

void ThrowSystem(napi_env env, const char* call, int error) {
  const std::string message = std::string(call) + ": " + strerror(error);
  Throw(env, napi_create_error, "ERR_MILLRACE_SYSTEM", message, error, call);
}

Arguments::Arguments(napi_env env, napi_callback_info info, const char* function) : env_(env), function_(function) {
  if (napi_get_cb_info(env, info, &count_, values_, nullptr, &data_) != napi_ok) count_ = 0;
}

std::string Arguments::Describe(size_t index, const char* name) const {
  return std::string(function_) + ": argument " + std::to_string(index + 1) + " (" + name + ") ";
}

bool Arguments::Unsigned(size_t index, const char* name, uint64_t limit, uint64_t* out) const {
  double value;
  if (index >= count_ || napi_get_value_double(env_, values_[index], &value) != napi_ok) {
    ThrowType(env_, Describe(index, name) + "must be a number");
    return false;
  }
  if (!(value >= 0 && value <= static_cast<double>(limit)) || value != std::floor(value)) {
    ThrowRange(env_, Describe(index, name) + "must be an integer from 0 to " + std::to_string(limit));
    return false;
  }
  *out = static_cast<uint64_t>(value);
  return true;
}

bool Arguments::Unsigned32(size_t index, const char* name, uint32_t* out) const {
  uint64_t value;
  if (!Unsigned(index, name, UINT32_MAX, &value)) return false;
  *out = static_cast<uint32_t>(value);
  return true;
}

bool Arguments::Descriptor(size_t index, const char* name, int* out) const {
  uint64_t value;
  if (!Unsigned(index, name, INT32_MAX, &value)) return false;
  *out = static_cast<int>(value);
  return true;
}

bool Arguments::Text(size_t index, const char* name, size_t mostBytes, std::string* out) const {
  size_t length = 0;
  if (index >= count_ || napi_get_value_string_utf8(env_, values_[index], nullptr, 0, &length) != napi_ok) {
    ThrowType(env_, Describe(index, name) + "must be a string");
    return false;
  }
  if (length > mostBytes) {
    ThrowRange(env_, Describe(index, name) + "must be at most " + std::to_string(mostBytes) + " bytes");
    return false;
  }
  out->resize(length + 1);
  if (napi_get_value_string_utf8(env_, values_[index], out->data(), length + 1, &length) != napi_ok) {
    ThrowType(env_, Describe(index, name) + "could not be read");
    return false;
  }
  out->resize(length);
  if (out->find('\0') != std::string::npos) {
    ThrowType(env_, Describe(index, name) + "must not hold a NUL");
    return false;
  }
  return true;
}

bool Arguments::Function(size_t index, const char* name, napi_value* out) const {
  napi_valuetype type;
  if (index < count_ && napi_typeof(env_, values_[index], &type) == napi_ok && type == napi_function) {
    *out = values_[index];
    return true;
  }
  ThrowType(env_, Describe(index, name) + "must be a function");
  return false;
}

bool Arguments::Bytes(size_t index, const char* name, const uint8_t** out, size_t* length) const {
  bool is = false;
  napi_typedarray_type type;
  void* data = nullptr;
  if (index >= count_ || napi_is_typedarray(env_, values_[index], &is) != napi_ok || !is ||
      napi_get_typedarray_info(env_, values_[index], &type, length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    ThrowType(env_, Describe(index, name) + "must be a Uint8Array");
    return false;
  }
  *out = static_cast<const uint8_t*>(data);
  if (data == nullptr) *length = 0;
  return true;
}

napi_value Number(napi_env env, double value) {
  napi_value result;
  return napi_create_double(env, value, &result) == napi_ok ? result : nullptr;
}

napi_value Undefined(napi_env env) {
  napi_value result;
  return napi_get_undefined(env, &result) == napi_ok ? result : nullptr;
}

napi_value ExternalArrayBuffer(napi_env env, void* memory, size_t bytes) {
  napi_value result;
  int64_t total;
  if (napi_create_external_arraybuffer(env, memory, bytes, nullptr, nullptr, &result) != napi_ok) return nullptr;
  // No collection frees it: counted as garbage to be, it would make the collector run whenever a pool grows.
  napi_adjust_external_memory(env, -static_cast<int64_t>(bytes), &total);
  return result;
}

}  // namespace millrace
