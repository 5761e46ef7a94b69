// Builds, then writes the API reference of the public entry points to docs/api. A warning is an error.
import { node, printJson, refuseRest, takeFlag, tool } from './process.mjs'

const args = process.argv.slice(2)
const json = takeFlag(args, '--json')
const skipBuild = takeFlag(args, '--no-build')
refuseRest(args, 'npm run docs -- [--json]')

const build = skipBuild ? { code: 0 } : await node('.ci/build.mjs')
const typedoc = build.code === 0 ? await tool('typedoc', []) : build
if (json) printJson({ name: 'docs', ok: typedoc.code === 0, folder: 'docs/api' })
process.exitCode = typedoc.code
