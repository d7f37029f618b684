// Names for the API's types, as the page uses them.
import * as api from "./api";

export type Row = api.ListEntry;
export type Breaker = Omit<api.ListEntry, "mode">;
export type Series = api.SeriesView;
export type Summary = api.SummaryReply;
export type Detail = api.BreakerDetail;
export type FleetEvent = api.StreamEntry;
export type Trip = api.Trip;
export type Who = api.WhoamiReply;
export type Selector = api.Selector;
export type GateBody = api.GateBody;
export type Check = api.ChecksReply["checks"][string];
export type Override = api.Reads["/v1/admin/circuit_breakers/{agent}/config"];

/** A screen. Leave ends what it began. */
export interface Screen {
  title: string;
  root: HTMLElement;
  /** Reads what it shows; called every two seconds. */
  read: () => Promise<void>;
  /** Called after a reading, an event, and every second. */
  changed: (why: "read" | "event" | "time", e?: FleetEvent) => void;
  /** A key that the page itself does not take. */
  key: (key: string) => void;
  leave: () => void;
}
