// node packages/broker/dist-dev/test/raft/scenarios-main.js [--rewrite]: runs the golden scenarios; with --rewrite the files
// are written as they should be, else each difference is an error.
import { fileURLToPath } from 'node:url'
import { runScenarioFolder } from '../golden/scenario-file.js'
import { runFile } from './scenario.js'

runScenarioFolder(fileURLToPath(new URL('../../../test/raft/scenarios', import.meta.url)), runFile)
