// Socket mechanism; see socket.h.
#include "socket.h"

#include <cerrno>
#include <cstring>
#include <string>

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arena.h"
#include "convert.h"

namespace millrace {

namespace {

using AddressInfo = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

/** Null for a name. An empty text would mean any address: no broker may listen everywhere by accident. */
AddressInfo Numeric(const std::string& host, uint64_t port) {
  addrinfo hints = {};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (host.empty() || getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) found = nullptr;
  return {found, freeaddrinfo};
}

/** A socket that sends at once, as do those it accepts, and whose port does not stay taken when it has gone. */
int Open(const addrinfo& address) {
  const int one = 1;
  const int descriptor = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -errno;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return descriptor;
}

/** The descriptor, or a negative errno. */
int Listen(const addrinfo& address, int backlog) {
  const int descriptor = Open(address);
  if (descriptor < 0) return descriptor;
  if (bind(descriptor, address.ai_addr, address.ai_addrlen) == 0 && listen(descriptor, backlog) == 0) return descriptor;
  const int error = errno;
  close(descriptor);
  return -error;
}

int PortOf(int descriptor) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6*>(&address)->sin6_port);
  return ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

}  // namespace

napi_value SocketListen(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "socketListen");
  std::string host;
  uint64_t port, backlog;
  if (!args.Text(0, "address", 255, &host) || !args.Unsigned(1, "port", 65535, &port) ||
      !args.Unsigned(2, "backlog", 65535, &backlog)) {
    return nullptr;
  }
  const AddressInfo found = Numeric(host, port);
  const int descriptor = found ? Listen(*found, static_cast<int>(backlog)) : -EINVAL;
  if (descriptor < 0) return Number(env, descriptor);
  Napi::Object result = Napi::Object::New(env);
  result.Set("descriptor", descriptor);
  result.Set("port", PortOf(descriptor));
  return result;
}

napi_value SocketDial(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "socketDial");
  std::string host;
  uint64_t port;
  uint8_t* target;
  if (!args.Text(0, "address", 255, &host) || !args.Unsigned(1, "port", 65535, &port) ||
      !ArenaRange(args, 2, sizeof(sockaddr_in6), &target)) {
    return nullptr;
  }
  const AddressInfo found = Numeric(host, port);
  if (!found) return Number(env, -EINVAL);
  memcpy(target, found->ai_addr, found->ai_addrlen);
  return Number(env, Open(*found));
}

napi_value SocketPeer(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "socketPeer");
  int descriptor;
  if (!args.Descriptor(0, "descriptor", &descriptor)) return nullptr;
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  char host[NI_MAXHOST], port[NI_MAXSERV];
  std::string text;
  if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
      getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
    text = address.ss_family == AF_INET6 ? "[" + std::string(host) + "]:" + port : std::string(host) + ":" + port;
  }
  return Napi::String::New(env, text);
}

napi_value SocketShutdown(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "socketShutdown");
  int descriptor;
  uint64_t how;
  if (!args.Descriptor(0, "descriptor", &descriptor) || !args.Unsigned(1, "how", 2, &how)) return nullptr;
  return Number(env, shutdown(descriptor, static_cast<int>(how)) == 0 ? 0 : -errno);
}

}  // namespace millrace
