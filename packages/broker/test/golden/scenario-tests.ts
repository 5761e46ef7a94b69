// The tests of a folder of golden scenarios: each file says what was done and what came of it. `scenarios-main.js --rewrite`
// beside the folder writes anew what came of it; the change is then to be read like prose.
import { expect, test } from 'vitest'
import { type FileRun, scenarioFiles } from './scenario-file.js'

/** @param least there are so many scenarios at least. */
export function testScenarios(folder: string, least: number, runFile: (text: string) => FileRun): void {
  const titles: string[] = []

  test.each(scenarioFiles(folder))('$name', ({ text }) => {
    const run = runFile(text)
    titles.push(...run.titles)
    expect(run.text).toBe(text)
  })

  test('there are enough, each with a title of its own', () => {
    expect(titles.length).toBeGreaterThanOrEqual(least)
    expect(new Set(titles).size).toBe(titles.length)
  })
}
