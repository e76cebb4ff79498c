"""Witnesses in the database itself: triggers that write down each end of a job and each page that changes its end.

A recount sees only how things stand; these have seen every step there, in the order of the commits.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

_INSTALL = """
CREATE TABLE witnessed_ends (job_id uuid, generation integer, state text);
CREATE TABLE witnessed_returns (page_id bigint, fence integer, before text, after text);
CREATE FUNCTION witness_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO witnessed_ends VALUES (NEW.id, NEW.generation, NEW.state); RETURN NULL;
END $$;
CREATE FUNCTION witness_return() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO witnessed_returns VALUES (NEW.id, NEW.fence, OLD.state, NEW.state); RETURN NULL;
END $$;
CREATE TRIGGER witness_end AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL) EXECUTE FUNCTION witness_end();
CREATE TRIGGER witness_return AFTER UPDATE ON pages FOR EACH ROW
    WHEN (OLD.state IN ('succeeded', 'dead', 'canceled') AND NEW.state <> OLD.state
          AND NOT (OLD.state = 'dead' AND NEW.state = 'ready' AND NEW.redrive_id IS NOT NULL))
    EXECUTE FUNCTION witness_return();
"""
_CHECKS = {
    "a job ends once in each generation": """
        SELECT e.job_id, e.generation, count(*) FROM witnessed_ends e
        GROUP BY e.job_id, e.generation HAVING count(*) > 1""",
    "a job that has ended was seen to end": """
        SELECT j.id, j.generation, j.state FROM jobs j WHERE j.finished_at IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM witnessed_ends e WHERE e.job_id = j.id AND e.generation = j.generation)""",
    "a page that has ended comes back by a redrive alone": "SELECT * FROM witnessed_returns",
}


def install(session: Session) -> None:
    """Into a database whose schema is there; once."""
    session.execute(text(_INSTALL))


def breaches(session: Session) -> list[str]:
    """What they saw that must not be."""
    return [
        f"{rule}: { ({name: str(value) for name, value in row.items()}) }"
        for rule, query in _CHECKS.items()
        for row in session.execute(text(query)).mappings().fetchmany(5)
    ]
