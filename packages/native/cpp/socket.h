// Sockets: what has to happen outside a ring. Accepting, connecting, receiving and sending go through the ring.
#pragma once

#include <node_api.h>

namespace millrace {

/**
 * socketListen(address, port, backlog) -> { descriptor, port } or negative errno. The address is numeric, IPv4 or
 * IPv6; a name is -EINVAL. Accepted sockets inherit TCP_NODELAY.
 */
napi_value SocketListen(napi_env env, napi_callback_info info);
/** socketDial(address, port, arena, offset) -> descriptor or negative errno; writes 28 bytes of address at most */
napi_value SocketDial(napi_env env, napi_callback_info info);
/** socketPeer(descriptor) -> "address:port", "[address]:port" or "" when it is not connected any more */
napi_value SocketPeer(napi_env env, napi_callback_info info);
/** socketShutdown(descriptor, how) -> 0 or negative errno; how as in shutdown(2): 0 read, 1 write, 2 both */
napi_value SocketShutdown(napi_env env, napi_callback_info info);

}  // namespace millrace
