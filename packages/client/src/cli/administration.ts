// Commands that administer: apart from the session, so that producing and consuming do not load MessagePack.
import { type Admin, admin } from '../admin.js'
import { type Session, withClient } from './session.js'

/** Runs `work` with the administration of a client that is closed whatever happens. */
export const withAdmin = <T>(session: Session, work: (cluster: Admin) => Promise<T>): Promise<T> =>
  withClient(session, (mill) => work(admin(mill)))
