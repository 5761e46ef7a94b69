// Builds, then runs one of the examples: `npm run example -- NAME [its own flags]`.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { node, root } from './process.mjs'

const [name, ...flags] = process.argv.slice(2)
const names = readdirSync(join(root, 'examples')).filter((folder) => existsSync(join(root, 'examples', folder, 'src')))
if (name === undefined || !names.includes(name)) {
  console.error(`npm run example -- NAME, with NAME one of: ${names.join(', ')}`)
  process.exitCode = 2
} else {
  const build = await node('.ci/build.mjs')
  process.exitCode = build.code === 0 ? (await node(`examples/${name}/dist/main.js`, flags)).code : build.code
}
