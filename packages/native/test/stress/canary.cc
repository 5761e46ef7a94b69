// A planted bug for each sanitizer, in an addon of its own: a run that does not report it has proved nothing.
#include <node_api.h>

#include <cstdlib>
#include <thread>

namespace {

int counter = 0;

/** Two threads write the same word: for ThreadSanitizer. */
napi_value Race(napi_env, napi_callback_info) {
  std::thread other([] { counter++; });
  counter++;
  other.join();
  return nullptr;
}

/** A byte behind an allocation is written: for AddressSanitizer. */
napi_value Overflow(napi_env, napi_callback_info) {
  auto* bytes = static_cast<volatile char*>(malloc(64));
  bytes[64] = 1;
  free(const_cast<char*>(bytes));
  return nullptr;
}

/** A signed number becomes larger than it can: for UndefinedBehaviorSanitizer. */
napi_value Undefined(napi_env, napi_callback_info) {
  volatile int number = 0x7fffffff;
  number = number + 1;
  return nullptr;
}

/** An allocation is forgotten: for LeakSanitizer. */
napi_value Leak(napi_env, napi_callback_info) {
  static_cast<volatile char*>(malloc(64))[0] = 1;
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  const struct {
    const char* name;
    napi_callback function;
  } bugs[] = {{"race", Race}, {"overflow", Overflow}, {"undefined", Undefined}, {"leak", Leak}};
  for (const auto& bug : bugs) {
    napi_value function;
    if (napi_create_function(env, bug.name, NAPI_AUTO_LENGTH, bug.function, nullptr, &function) != napi_ok ||
        napi_set_named_property(env, exports, bug.name, function) != napi_ok) {
      return nullptr;
    }
  }
  return exports;
}
