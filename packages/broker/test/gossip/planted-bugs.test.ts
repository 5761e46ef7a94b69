// Whoever is to catch a planted bug catches it; a test that cannot fail proves nothing.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { scenarioFiles } from '../golden/scenario-file.js'
import { checkMerge } from './merge-properties.js'
import { type Catcher, PLANTED_BUGS, type PlantedGossip, plant } from './planted-bugs.js'
import { runFile } from './scenario.js'
import { checkSeal } from './seal-checks.js'

const FOLDER = join(import.meta.dirname, 'scenarios')

const CATCHERS: Readonly<Record<Catcher, (planted: PlantedGossip) => void>> = {
  scenarios: ({ GossipCore }) => {
    for (const { name, text } of scenarioFiles(FOLDER)) {
      if (runFile(text, GossipCore).text !== text) throw new Error(`${name} differs`)
    }
  },
  merge: ({ mergeClaims }) => checkMerge(mergeClaims),
  seal: (planted) => checkSeal(planted),
}

test.each(PLANTED_BUGS)('$name', async (bug) => {
  const planted = await plant(bug)
  expect(() => CATCHERS[bug.catcher](planted)).toThrow(/differs|Property failed|instead of/)
})
