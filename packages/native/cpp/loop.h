// Couples a ring to the event loop of its JavaScript thread: turns run when the ring has news and before the loop waits.
#pragma once

#include <node_api.h>
#include <uv.h>

#include "ring.h"

namespace millrace {

/**
 * Calls JavaScript's `turn(woken)`:
 * - woken = true when the event descriptor says that completions wait (I/O phase of the loop);
 * - woken = false while `control.work` is set, right before the loop waits (prepare phase): deferred work and
 *   submission in one piece, after every other callback of this iteration.
 *
 * Owns itself: `Close` stops both handles and the object goes away with the last of them. The ring must outlive the
 * call of `Close`, not the object.
 */
class LoopCoupling {
 public:
  using OnClosed = void (*)(void*);

  /** Null, with an exception pending, when the loop or the engine refuses. */
  static LoopCoupling* Start(napi_env env, Ring* ring, napi_value callback, OnClosed onClosed, void* onClosedData);

  void Reference(bool wanted);
  /** References to JavaScript are given back at once, also when the environment ends: it does not do so by itself. */
  void Close();

 private:
  LoopCoupling() = default;
  ~LoopCoupling() = default;
  static void OnReadable(uv_poll_t* handle, int status, int events);
  static void OnPrepare(uv_prepare_t* handle);
  static void OnHandleClosed(uv_handle_t* handle);
  void CallTurn(bool woken);
  void ReleaseReferences();

  napi_env env_ = nullptr;
  Ring* ring_ = nullptr;
  napi_ref callback_ = nullptr;
  napi_ref resource_ = nullptr;
  napi_async_context context_ = nullptr;
  uv_poll_t poll_{};
  uv_prepare_t prepare_{};
  int openHandles_ = 0;
  bool closing_ = false;
  bool inTurn_ = false;
  OnClosed onClosed_ = nullptr;
  void* onClosedData_ = nullptr;
};

}  // namespace millrace
