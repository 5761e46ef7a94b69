// node packages/broker/dist-dev/test/gossip/scenarios-main.js [--rewrite]: runs the golden scenarios; with --rewrite the files
// are written as they should be, else each difference is an error.
import { fileURLToPath } from 'node:url'
import { runScenarioFolder } from '../golden/scenario-file.js'
import { runFile } from './scenario.js'

runScenarioFolder(fileURLToPath(new URL('../../../test/gossip/scenarios', import.meta.url)), runFile)
