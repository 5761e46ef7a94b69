// What the README tells a stranger to type, taken from the README itself, so that whoever follows it follows the same.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './process.mjs'

const ADDRESS = 'localhost:7420'

function text() {
  return readFileSync(join(root, 'README.md'), 'utf8')
}

/** The lines of the README's shell block that mentions `words`, as they stand there. */
export function shellBlock(words) {
  const blocks = [...text().matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map((match) => match[1])
  const block = blocks.find((lines) => lines.includes(words))
  if (block === undefined) throw new Error(`README.md has no command lines with ${words}`)
  return block
}

/** The first TypeScript program of the README, talking to `address`. */
export function firstProgram(address) {
  const program = /^```ts\n([\s\S]*?)^```$/m.exec(text())?.[1]
  if (program === undefined) throw new Error('README.md has no program')
  if (!program.includes(`'${ADDRESS}'`)) throw new Error(`the program of the README does not name ${ADDRESS}`)
  return program.replaceAll(ADDRESS, address)
}
