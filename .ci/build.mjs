// Builds everything: the native addon where it can be built, every TypeScript project, and what packages add to their own
// `dist`. Side by side where one does not need the other. `--sources` leaves out tests, benches, fuzzers and simulation.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { node, refuseRest, root, takeFlag, tool } from './process.mjs'

const args = process.argv.slice(2)
const sourcesOnly = takeFlag(args, '--sources')
refuseRest(args, 'npm run build -- [--sources]')

/** Steps of one package that belong to the build; each lives with its package. */
const NATIVE = 'packages/native/scripts/build.mjs'
const AFTER_TYPES = ['packages/client/scripts/vendor.mjs']

const BROKER_DEV = 'packages/broker/tsconfig.dev.json'

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

/** Ends the build when one of them fails; the others are waited for, so that what they say is seen. */
async function sideBySide(steps) {
  const results = await Promise.all(steps)
  const failed = results.find(({ code }) => code !== 0)
  if (failed !== undefined) process.exit(failed.code)
}

const projects = JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8')).references.map(({ path }) => path)
for (const path of projects) sweep(join(root, path.endsWith('.json') ? path : `${path}/tsconfig.json`))
const types = (paths) => tool('tsc', ['-b', ...paths])

const isDev = (path) => path.endsWith('tsconfig.dev.json')
await sideBySide([node(NATIVE), types(projects.filter((path) => !isDev(path)))])
const dev = sourcesOnly ? [] : projects.filter(isDev)
// The broker has as many tests, benches and simulation as all others together.
const halves = [dev.filter((path) => path === BROKER_DEV), dev.filter((path) => path !== BROKER_DEV)]
await sideBySide([
  ...AFTER_TYPES.map((script) => node(script)),
  ...halves.filter(({ length }) => length > 0).map(types),
])
