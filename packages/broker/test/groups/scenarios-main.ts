// node packages/broker/dist-dev/test/groups/scenarios-main.js [--rewrite]: runs the golden scenarios; with --rewrite the files
// are written as they should be, else each difference is an error.
import { fileURLToPath } from 'node:url'
import { runScenarioFolder } from '../golden/scenario-file.js'
import { runFile } from './scenario.js'

runScenarioFolder(fileURLToPath(new URL('../../../test/groups/scenarios', import.meta.url)), runFile)
