// Socket mechanism; see socket.h.
#include "socket.h"

#include <cerrno>
#include <string>

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "convert.h"

namespace millrace {

namespace {

/** The descriptor, or a negative errno. */
int Listen(const addrinfo& address, int backlog) {
  const int descriptor = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -errno;
  const int one = 1;
  if (setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
      setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0 &&
      bind(descriptor, address.ai_addr, address.ai_addrlen) == 0 && listen(descriptor, backlog) == 0) {
    return descriptor;
  }
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
  addrinfo hints = {};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  // An empty text would mean any address: no broker may listen everywhere by accident.
  if (host.empty() || getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    return Number(env, -EINVAL);
  }
  const int descriptor = Listen(*found, static_cast<int>(backlog));
  freeaddrinfo(found);
  if (descriptor < 0) return Number(env, descriptor);
  Napi::Object result = Napi::Object::New(env);
  result.Set("descriptor", descriptor);
  result.Set("port", PortOf(descriptor));
  return result;
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
