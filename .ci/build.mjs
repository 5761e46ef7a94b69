// Builds everything: the native addon where it can be built, then every TypeScript project, then what packages add
// to their own `dist`.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { node, refuseRest, root, tool } from './process.mjs'

refuseRest(process.argv.slice(2), 'npm run build')

/** Steps of one package that belong to the build; each lives with its package. */
const NATIVE = 'packages/native/scripts/build.mjs'
const AFTER_TYPES = ['packages/client/scripts/vendor.mjs']

function filesBelow(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

/**
 * `tsc -b` trusts its build information: it neither notices outputs that were deleted nor removes outputs whose
 * source is gone. Deleted outputs make it forget (and build anew); outputs without a source are removed, so that no
 * test, bench or fuzzer runs code that no longer exists. Folders named `vendor` are written by packages themselves.
 */
function sweep(configPath) {
  const config = JSON.parse(readFileSync(configPath, 'utf8'))
  const folder = join(configPath, '..')
  const { rootDir, outDir, tsBuildInfoFile } = config.compilerOptions
  const sourceRoot = join(folder, rootDir)
  const outputRoot = join(folder, outDir)
  const expected = new Set()
  for (const include of config.include) {
    for (const file of filesBelow(join(folder, include))) {
      if (file.endsWith('.ts') && !file.endsWith('.d.ts')) expected.add(relative(sourceRoot, file).slice(0, -3))
    }
  }
  for (const file of filesBelow(outputRoot)) {
    const name = /^(.+?)\.(?:js|d\.ts|js\.map|d\.ts\.map)$/.exec(relative(outputRoot, file))?.[1]
    if (name === undefined || name.split('/').includes('vendor') || expected.has(name)) continue
    rmSync(file)
  }
  const buildInfo = join(folder, tsBuildInfoFile)
  if (existsSync(buildInfo) && [...expected].some((name) => !existsSync(join(outputRoot, `${name}.js`)))) {
    rmSync(buildInfo)
  }
}

for (const reference of JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8')).references) {
  sweep(join(root, reference.path.endsWith('.json') ? reference.path : `${reference.path}/tsconfig.json`))
}

const steps = [() => node(NATIVE), () => tool('tsc', ['-b']), ...AFTER_TYPES.map((script) => () => node(script))]
for (const step of steps) {
  const { code } = await step()
  if (code !== 0) process.exit(code)
}
