// File mechanism; see file.h.
#include "file.h"

#include <cerrno>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "convert.h"

namespace millrace {

namespace {

napi_value Answer(napi_env env, double result) { return Number(env, result < 0 ? -errno : result); }

/**
 * syncfs may take seconds, so it leaves the JavaScript thread. It answers by a callback: a promise that is pending when
 * its environment ends could not be freed any more.
 */
class SyncWork : public Napi::AsyncWorker {
 public:
  SyncWork(const Napi::Function& done, int descriptor)
      : Napi::AsyncWorker(done, "MillraceSyncfs"), descriptor_(descriptor) {}

 protected:
  void Execute() override { result_ = syncfs(descriptor_) == 0 ? 0 : -errno; }
  std::vector<napi_value> GetResult(Napi::Env env) override { return {Napi::Number::New(env, result_)}; }

 private:
  int descriptor_;
  int result_ = 0;
};

}  // namespace

napi_value FileOpen(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "fileOpen");
  std::string path;
  int flags;
  uint32_t mode;
  if (!args.Text(0, "path", 4095, &path) || !args.Descriptor(1, "flags", &flags) ||
      !args.Unsigned32(2, "mode", &mode)) {
    return nullptr;
  }
  return Answer(env, open(path.c_str(), flags | O_CLOEXEC, static_cast<mode_t>(mode & 07777)));
}

napi_value DescriptorClose(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "descriptorClose");
  int descriptor;
  if (!args.Descriptor(0, "descriptor", &descriptor)) return nullptr;
  return Answer(env, close(descriptor));
}

napi_value FileLock(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "fileLock");
  int descriptor;
  if (!args.Descriptor(0, "descriptor", &descriptor)) return nullptr;
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return Answer(env, fcntl(descriptor, F_OFD_SETLK, &lock));
}

napi_value FileSystem(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "fileSystem");
  int descriptor;
  if (!args.Descriptor(0, "descriptor", &descriptor)) return nullptr;
  struct statfs system = {};
  struct stat status = {};
  if (fstatfs(descriptor, &system) != 0 || fstat(descriptor, &status) != 0) return Answer(env, -1);
  const double blockBytes = static_cast<double>(system.f_frsize > 0 ? system.f_frsize : system.f_bsize);
  Napi::Object result = Napi::Object::New(env);
  result.Set("type", static_cast<double>(static_cast<uint32_t>(system.f_type)));
  result.Set("blockBytes", blockBytes);
  result.Set("freeBytes", static_cast<double>(system.f_bavail) * blockBytes);
  result.Set("totalBytes", static_cast<double>(system.f_blocks) * blockBytes);
  result.Set("deviceMajor", static_cast<double>(major(status.st_dev)));
  result.Set("deviceMinor", static_cast<double>(minor(status.st_dev)));
  return result;
}

napi_value FileSystemSync(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "fileSystemSync");
  int descriptor;
  napi_value done;
  if (!args.Descriptor(0, "descriptor", &descriptor) || !args.Function(1, "done", &done)) return nullptr;
  // Deletes itself when it has answered.
  (new SyncWork(Napi::Function(env, done), descriptor))->Queue();
  return Undefined(env);
}

}  // namespace millrace
