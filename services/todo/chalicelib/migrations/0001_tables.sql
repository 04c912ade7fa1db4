-- The tables of the to-do service. Each statement may run again: DDL commits by itself, so a run
-- that was cut off halfway is repeated from the start of its file.
-- tenant and id are ASCII and compared byte by byte, so that keys are short and pages are in the
-- order of the ids; the task keeps every character that a client sends.

CREATE TABLE IF NOT EXISTS todo (
  tenant     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  id         CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  task       VARCHAR(2000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  status     VARCHAR(4) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  created_at DATETIME(6) NOT NULL,
  updated_at DATETIME(6) NOT NULL,
  revision   CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  region     VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  epoch      BIGINT NOT NULL,
  PRIMARY KEY (tenant, id),
  KEY by_status (tenant, status, id)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS idempotency (
  tenant       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  idem_key     VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  request_hash CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  status       SMALLINT NOT NULL,
  body         TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  created_at   DATETIME(6) NOT NULL,
  PRIMARY KEY (tenant, idem_key),
  KEY by_age (created_at)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS fence (
  id            TINYINT NOT NULL,
  epoch         BIGINT NOT NULL,
  active_region VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  state         VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  updated_at    DATETIME(6) NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS heartbeat (
  region  VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  epoch   BIGINT NOT NULL,
  beat_at DATETIME(6) NOT NULL,
  PRIMARY KEY (region)
) ENGINE=InnoDB;
