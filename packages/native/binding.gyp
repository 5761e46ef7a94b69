# How node-gyp builds the addon. Run through scripts/build.mjs, which finds the headers and decides whether to build.
{
  'variables': { 'sanitize%': '' },
  'targets': [
    {
      'target_name': 'millrace_native',
      'sources': [
        'cpp/addon.cc', 'cpp/arena.cc', 'cpp/checksum.cc', 'cpp/convert.cc', 'cpp/file.cc',
        'cpp/kernel-features.cc', 'cpp/loop.cc', 'cpp/ring.cc', 'cpp/ring-entry.cc', 'cpp/socket.cc',
      ],
      'include_dirs': ['<!@(node -p "require(\'node-addon-api\').include_dir")'],
      'defines': ['NAPI_VERSION=8', 'NAPI_DISABLE_CPP_EXCEPTIONS', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++20', '-fno-rtti'],
      'cflags_cc': ['-std=c++20', '-Wall', '-Wextra', '-Wno-unused-parameter', '-Wno-missing-field-initializers', '-fvisibility=hidden', '-fno-strict-aliasing'],
      'conditions': [
        ['sanitize!=""', {
          'cflags_cc': ['-fsanitize=<(sanitize)', '-fno-sanitize-recover=undefined', '-fno-omit-frame-pointer', '-g', '-O1'],
          'ldflags': ['-fsanitize=<(sanitize)'],
        }],
      ],
    },
  ],
}
