// The ring in the event loop; see loop.h.
#include "loop.h"

#include "convert.h"

namespace millrace {

namespace {

/** Turns in a row before other handles of the loop get their chance. */
constexpr int kMostTurnsInRow = 16;

}  // namespace

LoopCoupling* LoopCoupling::Start(napi_env env, Ring* ring, napi_value callback, OnClosed onClosed,
                                  void* onClosedData) {
  uv_loop_t* loop = nullptr;
  napi_value name, resource;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok ||
      napi_create_string_utf8(env, "MillraceRing", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_object(env, &resource) != napi_ok) {
    ThrowSystem(env, "napi_get_uv_event_loop", EINVAL);
    return nullptr;
  }
  auto* coupling = new LoopCoupling();
  coupling->env_ = env;
  coupling->ring_ = ring;
  coupling->onClosed_ = onClosed;
  coupling->onClosedData_ = onClosedData;
  coupling->poll_.data = coupling->prepare_.data = coupling;
  const int refused = uv_poll_init(loop, &coupling->poll_, ring->eventFd());
  if (refused != 0) {
    delete coupling;
    ThrowSystem(env, "uv_poll_init", -refused);
    return nullptr;
  }
  uv_prepare_init(loop, &coupling->prepare_);
  coupling->openHandles_ = 2;
  if (napi_create_reference(env, callback, 1, &coupling->callback_) != napi_ok ||
      napi_create_reference(env, resource, 1, &coupling->resource_) != napi_ok ||
      napi_async_init(env, resource, name, &coupling->context_) != napi_ok) {
    ThrowSystem(env, "napi_async_init", ENOMEM);
    coupling->onClosed_ = nullptr;
    coupling->Close();
    return nullptr;
  }
  uv_poll_start(&coupling->poll_, UV_READABLE, OnReadable);
  uv_prepare_start(&coupling->prepare_, OnPrepare);
  uv_unref(reinterpret_cast<uv_handle_t*>(&coupling->prepare_));
  coupling->Reference(ring->control()->active != 0);
  return coupling;
}

void LoopCoupling::Reference(bool wanted) {
  auto* handle = reinterpret_cast<uv_handle_t*>(&poll_);
  if (wanted) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
  ring_->control()->referenced = wanted ? 1 : 0;
}

void LoopCoupling::Close() {
  if (closing_) return;
  closing_ = true;
  ring_ = nullptr;
  uv_poll_stop(&poll_);
  uv_prepare_stop(&prepare_);
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), OnHandleClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&prepare_), OnHandleClosed);
  if (!inTurn_) ReleaseReferences();
}

void LoopCoupling::ReleaseReferences() {
  if (context_ != nullptr) napi_async_destroy(env_, context_);
  if (resource_ != nullptr) napi_delete_reference(env_, resource_);
  if (callback_ != nullptr) napi_delete_reference(env_, callback_);
  context_ = nullptr;
  resource_ = callback_ = nullptr;
}

void LoopCoupling::OnHandleClosed(uv_handle_t* handle) {
  auto* coupling = static_cast<LoopCoupling*>(handle->data);
  if (--coupling->openHandles_ > 0) return;
  if (coupling->onClosed_ != nullptr) coupling->onClosed_(coupling->onClosedData_);
  delete coupling;
}

void LoopCoupling::OnReadable(uv_poll_t* handle, int status, int events) {
  auto* coupling = static_cast<LoopCoupling*>(handle->data);
  if (coupling->closing_) return;
  coupling->ring_->SuppressEvents(true);
  coupling->ring_->ClearWake();
  coupling->CallTurn(true);
}

void LoopCoupling::OnPrepare(uv_prepare_t* handle) {
  auto* coupling = static_cast<LoopCoupling*>(handle->data);
  // Each turn may close the ring, so it is looked up again every time.
  for (int turns = 0; turns < kMostTurnsInRow && !coupling->closing_; turns++) {
    Ring* ring = coupling->ring_;
    const Control* control = ring->control();
    if (control->work == 0) {
      ring->SuppressEvents(false);
      if (!ring->HasWork()) {
        if (control->referenced != 0 && control->active == 0) coupling->Reference(false);
        return;
      }
      ring->SuppressEvents(true);
    }
    coupling->CallTurn(false);
  }
  if (coupling->closing_) return;
  // There is more, and others wait too: the loop polls them, finds the event descriptor readable and comes back.
  coupling->ring_->SuppressEvents(false);
  coupling->ring_->Wake();
}

void LoopCoupling::CallTurn(bool woken) {
  napi_handle_scope scope;
  if (napi_open_handle_scope(env_, &scope) != napi_ok) return;
  inTurn_ = true;
  napi_value callback, receiver, argument, result;
  if (napi_get_reference_value(env_, callback_, &callback) == napi_ok && callback != nullptr &&
      napi_get_boolean(env_, woken, &argument) == napi_ok && napi_get_global(env_, &receiver) == napi_ok) {
    const napi_status status = napi_make_callback(env_, context_, receiver, callback, 1, &argument, &result);
    if (status == napi_pending_exception) {
      // The uncaughtException of a callback from the system. In an environment that is being torn down there is none
      // to report.
      napi_value error;
      if (napi_get_and_clear_last_exception(env_, &error) == napi_ok) napi_fatal_exception(env_, error);
    }
  }
  inTurn_ = false;
  // A ring closed by its own turn keeps the references until that turn is over.
  if (closing_) ReleaseReferences();
  napi_close_handle_scope(env_, scope);
}

}  // namespace millrace
