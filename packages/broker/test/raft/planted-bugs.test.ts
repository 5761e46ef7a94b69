// Whoever is to catch a planted bug catches it; a test that cannot fail proves nothing.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { scenarioFiles } from '../golden/scenario-file.js'
import { Explorer, ISSUE_BOUNDS } from './explorer.js'
import type { CoreClass } from './model-node.js'
import { type Catcher, PLANTED_BUGS, plant } from './planted-bugs.js'
import { runFile } from './scenario.js'
import { Schedule } from './schedule.js'

const FOLDER = join(import.meta.dirname, 'scenarios')

/** @returns what was found, or null. */
const CATCHERS: Readonly<Record<Catcher, (coreClass: CoreClass) => string | null>> = {
  explorer: (coreClass) => found(() => new Explorer(ISSUE_BOUNDS, 7, coreClass).sample(20_000)),
  slowExplorer: (coreClass) =>
    found(() => new Explorer({ ...ISSUE_BOUNDS, slowDisks: true }, 7, coreClass).sample(20_000)),
  schedules: (coreClass) =>
    found(() => {
      for (let seed = 0; seed < 900; seed++) {
        const isLossy = seed % 3 === 0
        new Schedule({ seed, voters: 3, spares: isLossy ? 0 : 1, isLossy, coreClass }).run(400)
      }
    }),
  scenarios: (coreClass) => {
    for (const { name, text } of scenarioFiles(FOLDER)) {
      const message = found(() => {
        if (runFile(text, coreClass).text !== text) throw new Error(`${name} differs`)
      })
      if (message !== null) return message
    }
    return null
  },
}

function found(search: () => void): string | null {
  try {
    search()
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

test.each(PLANTED_BUGS)('$name', async (bug) => {
  const coreClass = await plant(bug)
  for (const catcher of bug.catchers) expect(CATCHERS[catcher](coreClass), catcher).not.toBeNull()
})
