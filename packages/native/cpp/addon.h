// The state of the addon in one JavaScript environment (main thread or worker). There is no state outside of it.
#pragma once

#include <node_api.h>

#include <memory>
#include <set>

#include "arena.h"
#include "convert.h"
#include "loop.h"
#include "ring.h"
#include "slab.h"

namespace millrace {

/** A ring with what couples it to JavaScript. */
struct OpenRing {
  std::unique_ptr<Ring> ring;
  LoopCoupling* coupling = nullptr;
  napi_ref ringBuffer = nullptr;
  napi_ref sqeBuffer = nullptr;
  napi_ref controlBuffer = nullptr;
};

/**
 * Lives from the loading of the addon to the cleanup of its environment. Cleanup drains every ring for 2 s at the most,
 * on the thread that owns them; what is then still in flight makes its ring and every arena stay mapped for ever.
 */
class Instance {
 public:
  static Instance* Create(napi_env env);
  static Instance* Of(const Arguments& args) { return static_cast<Instance*>(args.data()); }

  /** Takes the memory behind an ArrayBuffer back from JavaScript; false when the engine does not allow it. */
  bool Detach(napi_ref* buffer);
  /** Gives a reference back when the environment ends: no JavaScript runs any more, and its views go away unread. */
  void Forget(napi_ref* buffer);
  /** Stops a ring and frees it, or leaks it when anything is in flight; how much was. */
  uint32_t Close(uint64_t handle, Ring::Clock::time_point deadline, bool environmentEnds);
  bool HasLeaked(uint64_t ring) const { return leaked_.count(ring) > 0; }
  LoopCoupling* Couple(Ring* ring, napi_value callback);

  napi_env env = nullptr;
  Slab<OpenRing> rings;
  Slab<Arena> arenas;

 private:
  static void OnEnvironmentEnds(napi_async_cleanup_hook_handle hook, void* data);
  static void OnCouplingClosed(void* data);
  void FinishIfIdle();

  napi_async_cleanup_hook_handle hook_ = nullptr;
  int couplings_ = 0;
  bool ending_ = false;
  std::set<uint64_t> leaked_;
};

}  // namespace millrace
