"""Jobs that continue others: which job trained the same architecture up to a lower fidelity."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the step, in place: copying the table, as batches do, would orphan the rows that refer to it."""
    op.add_column("jobs", sa.Column("continues", sa.String(), nullable=True))


def downgrade() -> None:
    """Undo the step."""
    op.drop_column("jobs", "continues")
