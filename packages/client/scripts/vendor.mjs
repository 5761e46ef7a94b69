// Puts msgpackr into `dist/vendor`, so that the client has no dependency that could bring native code: from its neutral
// entry, one file without imports, with its licence. Run by the build after the compiler.
import { copyFileSync, mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

// Its package.json is not exported; the main file lies one folder below the neutral entry.
const source = dirname(dirname(createRequire(import.meta.url).resolve('msgpackr')))
const target = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist', 'vendor')
mkdirSync(target, { recursive: true })
await build({
  stdin: { contents: "export { Packr } from './index.js'", resolveDir: source },
  outfile: join(target, 'msgpackr.js'),
  bundle: true,
  // What is installed with the client is to stay below 500 KB.
  minify: true,
  format: 'esm',
  platform: 'neutral',
  target: 'es2022',
  banner: {
    js: '// msgpackr (https://github.com/kriszyp/msgpackr), its neutral entry. Licence: msgpackr.LICENSE beside this file.',
  },
  logLevel: 'warning',
})
copyFileSync(join(source, 'LICENSE'), join(target, 'msgpackr.LICENSE'))
